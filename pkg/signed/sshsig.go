package signed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The format is that of OpenSSH's PROTOCOL.sshsig.
const (
	magic     = "SSHSIG"
	version   = 1
	armorType = "SSH SIGNATURE"
)

// signature is the armored data, after magic.
type signature struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signedData is the data that the key has signed, after magic.
type signedData struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

// signedDataOf returns the bytes that the key signs for a message.
func (s signature) signedDataOf(message []byte) ([]byte, error) {
	var digest []byte
	switch s.Hash {
	case "sha512":
		sum := sha512.Sum512(message)
		digest = sum[:]
	case "sha256":
		sum := sha256.Sum256(message)
		digest = sum[:]
	default:
		return nil, fmt.Errorf("the signature's hash is %q: only sha512 and sha256 are supported", s.Hash)
	}
	return append([]byte(magic), ssh.Marshal(signedData{s.Namespace, s.Reserved, s.Hash, digest})...), nil
}

// Sign signs a message for a namespace. The signature is armored text, as
// "ssh-keygen -Y sign" writes it.
func (s *Signer) Sign(namespace string, message []byte) ([]byte, error) {
	out := signature{Version: version, PublicKey: s.Key.public.Marshal(), Namespace: namespace, Hash: "sha512"}
	data, err := out.signedDataOf(message)
	if err != nil {
		return nil, err
	}
	sig, err := s.private.Sign(rand.Reader, data)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.Key.Fingerprint(), err)
	}
	out.Signature = ssh.Marshal(sig)
	return pem.EncodeToMemory(&pem.Block{Type: armorType, Bytes: append([]byte(magic), ssh.Marshal(out)...)}), nil
}

// Verify returns which of the keys has signed a message for a namespace. The
// signature is armored text, as Sign and "ssh-keygen -Y sign" make it.
func Verify(keys []Key, namespace string, message, armored []byte) (Key, error) {
	sig, err := parse(armored)
	if err != nil {
		return Key{}, err
	}
	if sig.Namespace != namespace {
		return Key{}, fmt.Errorf("the signature is for the namespace %q: it must be %q", sig.Namespace, namespace)
	}
	data, err := sig.signedDataOf(message)
	if err != nil {
		return Key{}, err
	}
	var blob ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &blob); err != nil {
		return Key{}, fmt.Errorf("read the signature: %w", err)
	}
	for _, k := range keys {
		if k.public == nil || !bytes.Equal(k.public.Marshal(), sig.PublicKey) {
			continue
		}
		if err := k.public.Verify(data, &blob); err != nil {
			return Key{}, fmt.Errorf("the signature of key %s is not of this message: %w", k.Fingerprint(), err)
		}
		return k, nil
	}
	return Key{}, errors.New("the signature is of none of the known keys")
}

// parse reads armored text.
func parse(armored []byte) (sig signature, err error) {
	block, rest := pem.Decode(armored)
	if block == nil || block.Type != armorType || len(bytes.TrimSpace(rest)) > 0 {
		return sig, errors.New("the signature is no text that begins with -----BEGIN " + armorType + "-----")
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(magic))
	if !ok {
		return sig, fmt.Errorf("the signature does not begin with %s", magic)
	}
	if err := ssh.Unmarshal(body, &sig); err != nil {
		return sig, fmt.Errorf("read the signature: %w", err)
	}
	if sig.Version != version {
		return sig, fmt.Errorf("the signature has version %d: only %d is supported", sig.Version, version)
	}
	return sig, nil
}
