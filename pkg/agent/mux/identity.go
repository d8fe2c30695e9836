package mux

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"time"
)

// Files names the PEM files of an Identity. Without any of them the Identity has an
// ephemeral certificate.
type Files struct {
	CA, Cert, Key string

	// ServerName, if set, must be a name in the certificate of every server that is
	// dialled. If not, any certificate of the CA is accepted, because servers are dialled
	// by address.
	ServerName string
}

// Identity is this agent's certificate, and how it verifies those of others.
type Identity struct {
	cert       tls.Certificate
	roots      *x509.CertPool // nil: no certificate is verified
	serverName string
}

// LoadIdentity reads the files. Without a CA it makes a certificate for the life of the
// process: all connections are encrypted, by the same code. The caller warns of what
// that means (see Verifies).
func LoadIdentity(files Files, logger *slog.Logger) (*Identity, error) {
	if files.CA == "" && files.Cert == "" && files.Key == "" {
		if files.ServerName != "" {
			return nil, errors.New("load TLS identity: a server name can only be verified with a CA: configure the CA, certificate and key files")
		}
		cert, err := ephemeral()
		if err != nil {
			return nil, fmt.Errorf("make an ephemeral certificate: %w", err)
		}
		logger.Debug("no CA is configured: agents talk to each other encrypted, but do not verify each other")
		return &Identity{cert: cert}, nil
	}
	if files.CA == "" || files.Cert == "" || files.Key == "" {
		return nil, errors.New("load TLS identity: a CA file, a certificate file and a key file go together: configure all three or none")
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate %s and key %s: %w", files.Cert, files.Key, err)
	}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, fmt.Errorf("load TLS CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load TLS CA %s: no certificate in PEM form in it", files.CA)
	}
	return &Identity{cert: cert, roots: roots, serverName: files.ServerName}, nil
}

// Verifies says whether the other end needs a certificate of our CA.
func (id *Identity) Verifies() bool { return id.roots != nil }

func (id *Identity) server() *tls.Config {
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{id.cert},
		NextProtos:   []string{ProtoHTTP, ProtoRaft},
	}
	if id.roots != nil {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = id.roots
	}
	return cfg
}

func (id *Identity) client(proto string) *tls.Config {
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{id.cert},
		NextProtos:   []string{proto},
	}
	switch {
	case id.roots == nil:
		cfg.InsecureSkipVerify = true // ephemeral certificates prove nothing
	case id.serverName != "":
		cfg.RootCAs = id.roots
		cfg.ServerName = id.serverName
	default:
		cfg.InsecureSkipVerify = true // of the name only; verifyChain verifies the rest
		cfg.VerifyConnection = id.verifyChain
	}
	return cfg
}

// verifyChain is the standard verification without the name.
func (id *Identity) verifyChain(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         id.roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func ephemeral() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "muster ephemeral"},
		NotBefore:    now.Add(-24 * time.Hour), // in case clocks differ
		NotAfter:     now.AddDate(100, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
