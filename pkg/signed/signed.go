// Package signed signs messages with SSH keys and verifies signatures. It takes
// ed25519 keys only, from the files that ssh-keygen writes or through a running
// ssh-agent.
//
// Signatures have the format of OpenSSH's PROTOCOL.sshsig, so that "ssh-keygen -Y
// sign" and "ssh-keygen -Y verify" make and verify them too. A signature is bound
// to a namespace: one that was made for another purpose does not verify.
package signed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Key is a public key. Two keys are equal if their Lines are.
type Key struct {
	Comment string
	public  ssh.PublicKey
}

// ParseKey reads a line of an authorized_keys file.
func ParseKey(line string) (Key, error) {
	public, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil || len(bytes.TrimSpace(rest)) > 0:
		return Key{}, fmt.Errorf("%q is no public key such as \"ssh-ed25519 AAAA... name\"", line)
	case len(options) > 0:
		return Key{}, fmt.Errorf("the key %q has options before it: they would have no effect", line)
	case public.Type() != ssh.KeyAlgoED25519:
		return Key{}, fmt.Errorf("the key %q is of type %s: only ssh-ed25519 is supported", comment, public.Type())
	}
	return Key{Comment: comment, public: public}, nil
}

// Line is the key as authorized_keys has it, without the comment.
func (k Key) Line() string {
	if k.public == nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.public)))
}

// Fingerprint is what ssh-keygen -l shows of the key.
func (k Key) Fingerprint() string { return ssh.FingerprintSHA256(k.public) }

// Signer signs with one private key.
type Signer struct {
	Key     Key
	private ssh.Signer
	close   func() error
}

// Open makes a signer from a file: a private key, or a public one (*.pub), whose
// private half the ssh-agent at SSH_AUTH_SOCK holds. passphrase returns the one of
// an encrypted private key; nil refuses such keys. The caller closes the signer.
func Open(path string, passphrase func() ([]byte, error)) (*Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if line, err := bufio.NewReader(bytes.NewReader(data)).ReadString('\n'); err == nil || line != "" {
		if key, err := ParseKey(strings.TrimSpace(line)); err == nil {
			return openAgent(path, key)
		}
	}
	private, err := ssh.ParsePrivateKey(data)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) && passphrase != nil {
		secret, err := passphrase()
		if err != nil {
			return nil, fmt.Errorf("read the passphrase of %s: %w", path, err)
		}
		if private, err = ssh.ParsePrivateKeyWithPassphrase(data, secret); err != nil {
			return nil, fmt.Errorf("read key %s: %w", path, err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return newSigner(path, private, func() error { return nil })
}

func newSigner(path string, private ssh.Signer, closer func() error) (*Signer, error) {
	if t := private.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("key %s is of type %s: only ssh-ed25519 is supported", path, t)
	}
	return &Signer{Key: Key{public: private.PublicKey()}, private: private, close: closer}, nil
}

// openAgent finds a key's private half in the ssh-agent.
func openAgent(path string, key Key) (*Signer, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, fmt.Errorf("%s is a public key, and no ssh-agent runs (SSH_AUTH_SOCK is not set): name the private key", path)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("reach the ssh-agent: %w", err)
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask the ssh-agent for its keys: %w", err)
	}
	for _, s := range signers {
		if bytes.Equal(s.PublicKey().Marshal(), key.public.Marshal()) {
			return newSigner(path, s, conn.Close)
		}
	}
	_ = conn.Close()
	return nil, fmt.Errorf("the ssh-agent does not hold the key of %s: ssh-add it", path)
}

// Close closes the connection to the ssh-agent, if there is one.
func (s *Signer) Close() error { return s.close() }
