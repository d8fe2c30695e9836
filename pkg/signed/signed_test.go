package signed

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// pair writes a key pair as ssh-keygen does; it returns the private one's path.
func pair(t testing.TB, passphrase string) (string, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "ops@desk")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "ops@desk", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	write(t, path, string(pem.EncodeToMemory(block)))
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".pub", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))+" ops@desk\n")
	return path, private
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func public(t *testing.T, path string) Key {
	t.Helper()
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func checkSigner(t *testing.T, s *Signer, key Key) {
	t.Helper()
	message := []byte("message")
	sig, err := s.Sign("a", message)
	if err != nil {
		t.Fatal(err)
	}
	if s.Key.Line() != key.Line() {
		t.Errorf("the signer has key %s, want %s", s.Key.Line(), key.Line())
	}
	check(t, "a", key, message, sig)
}

// check tests that the signature is the key's, of that message and nothing else.
func check(t *testing.T, namespace string, key Key, message, sig []byte) {
	t.Helper()
	foreign := public(t, first(pair(t, "")))
	if by, err := Verify([]Key{foreign, key}, namespace, message, sig); err != nil || by.Line() != key.Line() {
		t.Errorf("the key does not verify what it signed: %v", err)
	}
	damaged := append([]byte{}, sig...)
	damaged[len(damaged)/2] ^= 1
	for what, err := range map[string]error{
		"another namespace":     verify([]Key{key}, namespace+"b", message, sig),
		"another message":       verify([]Key{key}, namespace, append([]byte("x"), message...), sig),
		"a damaged signature":   verify([]Key{key}, namespace, message, damaged),
		"two signatures":        verify([]Key{key}, namespace, message, append(sig, sig...)),
		"no signature":          verify([]Key{key}, namespace, message, nil),
		"the zero key":          verify([]Key{{}}, namespace, message, sig),
		"a key that signed not": verify([]Key{foreign}, namespace, message, sig),
	} {
		if err == nil {
			t.Errorf("%s verifies", what)
		}
	}
}

func verify(keys []Key, namespace string, message, sig []byte) error {
	_, err := Verify(keys, namespace, message, sig)
	return err
}

func first(path string, _ ed25519.PrivateKey) string { return path }

func TestPrivateKey(t *testing.T) {
	path, _ := pair(t, "")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkSigner(t, s, public(t, path))
}

func TestPassphrase(t *testing.T) {
	path, _ := pair(t, "open sesame")
	if _, err := Open(path, nil); err == nil {
		t.Error("an encrypted key opens without its passphrase")
	}
	if _, err := Open(path, func() ([]byte, error) { return nil, errors.New("no terminal") }); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("error is %v", err)
	}
	if _, err := Open(path, func() ([]byte, error) { return []byte("wrong"), nil }); err == nil {
		t.Error("an encrypted key opens by a wrong passphrase")
	}
	s, err := Open(path, func() ([]byte, error) { return []byte("open sesame"), nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkSigner(t, s, public(t, path))
}

func TestThroughAgent(t *testing.T) {
	path, private := pair(t, "")
	socket := filepath.Join(t.TempDir(), "agent")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ring := agent.NewKeyring()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, conn) }()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
	if _, err := Open(path+".pub", nil); err == nil || !strings.Contains(err.Error(), "ssh-add it") {
		t.Errorf("error is %v", err)
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path+".pub", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkSigner(t, s, public(t, path))
	t.Setenv("SSH_AUTH_SOCK", "")
	if _, err := Open(path+".pub", nil); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK is not set") {
		t.Errorf("error is %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	path, _ := pair(t, "")
	good := public(t, path).Line()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ssh.NewPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"", "ssh-ed25519", "ssh-ed25519 AAAA", `command="x" ` + good, good + "\n" + good, string(ssh.MarshalAuthorizedKey(foreign))} {
		if key, err := ParseKey(line); err == nil {
			t.Errorf("%q is taken for the key %s", line, key.Line())
		}
	}
}
