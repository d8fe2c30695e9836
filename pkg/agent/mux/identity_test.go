package mux

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBothEndsVerify(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server := identity(t, ours.issue(t, "server.dc1.consul"))
	p := start(t, func(c *Config) { c.Identity = server }, http.HandlerFunc(sayHello))

	named := func(files Files, name string) Files {
		files.ServerName = name
		return files
	}
	tests := []struct {
		name  string
		files Files
		ok    bool
	}{
		{"same CA", ours.issue(t, "client"), true},
		{"same CA, right name", named(ours.issue(t, "client"), "server.dc1.consul"), true},
		{"same CA, wrong name", named(ours.issue(t, "client"), "server.dc2.consul"), false},
		{"no CA", Files{}, false},
		{"other CA", theirs.issue(t, "client"), false},
		{"trusts us, is not trusted", mix(ours.issue(t, ""), theirs.issue(t, "client")), false},
		{"is trusted, does not trust us", mix(theirs.issue(t, ""), ours.issue(t, "client")), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := identity(t, tt.files)
			client := (&port{id: id}).client(t)
			got, err := get(client, p.addr, "/x")
			if (got == "HTTP/2.0 hello /x") != tt.ok {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestLoadIdentityRefuses(t *testing.T) {
	good := newAuthority(t).issue(t, "a")
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		files Files
		want  string
	}{
		"no key":            {Files{CA: good.CA, Cert: good.Cert}, "go together"},
		"no CA":             {Files{Cert: good.Cert, Key: good.Key}, "go together"},
		"name without CA":   {Files{ServerName: "x"}, "only be verified with a CA"},
		"CA is not there":   {Files{CA: "/nonexistent.pem", Cert: good.Cert, Key: good.Key}, "/nonexistent.pem"},
		"CA is garbage":     {Files{CA: garbage, Cert: good.Cert, Key: good.Key}, garbage},
		"cert is garbage":   {Files{CA: good.CA, Cert: garbage, Key: good.Key}, garbage},
		"key of a stranger": {Files{CA: good.CA, Cert: good.Cert, Key: newAuthority(t).issue(t, "b").Key}, good.Cert},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadIdentity(tt.files, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestThrowawayIsSaidOnce(t *testing.T) {
	var out bytes.Buffer
	id, err := LoadIdentity(Files{}, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if id.Verifies() || strings.Count(out.String(), "no CA is configured") != 1 {
		t.Errorf("verifies: %t, log: %s", id.Verifies(), out.String())
	}
}

// mix takes the CA of one and the certificate of the other.
func mix(ca, cert Files) Files { return Files{CA: ca.CA, Cert: cert.Cert, Key: cert.Key} }

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.cert = sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key, a.key)
	return a
}

// issue writes a certificate of this CA, and its files.
func (a *authority) issue(t *testing.T, name string) Files {
	t.Helper()
	key := newKey(t)
	cert := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}[:min(len(name), 1)],
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key, key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return Files{
		CA:   writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", a.cert.Raw),
		Cert: writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert.Raw),
		Key:  writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", der),
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate; without a parent it signs itself.
func sign(t *testing.T, c, parent *x509.Certificate, signer, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
