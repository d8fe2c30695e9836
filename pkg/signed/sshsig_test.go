package signed

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// sshKeygen runs the real one.
func sshKeygen(t *testing.T, stdin []byte, args ...string) error {
	t.Helper()
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	t.Logf("ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
	return err
}

func needSSHKeygen(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not installed: what it signs and verifies is not tested")
	}
}

// ssh-keygen verifies what we sign.
func TestSSHKeygenVerifies(t *testing.T) {
	needSSHKeygen(t)
	path, _ := pair(t, "")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, message := range []string{"", "message\n", strings.Repeat("long ", 100_000)} {
		sig, err := s.Sign("a", []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file, allowed := filepath.Join(dir, "message.sig"), filepath.Join(dir, "allowed_signers")
		write(t, file, string(sig))
		write(t, allowed, "ops@desk "+s.Key.Line()+"\n")
		check := func(namespace, message string) error {
			return sshKeygen(t, []byte(message), "-Y", "verify", "-f", allowed, "-I", "ops@desk", "-n", namespace, "-s", file)
		}
		if err := check("a", message); err != nil {
			t.Error("ssh-keygen does not verify it")
		}
		if check("b", message) == nil || check("a", message+"x") == nil {
			t.Error("ssh-keygen verifies another namespace or message")
		}
	}
}

// We verify what ssh-keygen signs, by both of its hashes.
func TestSSHKeygenSigns(t *testing.T) {
	needSSHKeygen(t)
	path, _ := pair(t, "")
	key := public(t, path)
	message := filepath.Join(t.TempDir(), "message")
	write(t, message, "the message\n")
	for _, hash := range []string{"sha256", "sha512"} {
		if err := sshKeygen(t, nil, "-Y", "sign", "-f", path, "-n", "a", "-O", "hashalg="+hash, message); err != nil {
			t.Fatal("ssh-keygen does not sign")
		}
		sig, err := os.ReadFile(message + ".sig")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(message + ".sig"); err != nil {
			t.Fatal(err)
		}
		check(t, "a", key, []byte("the message\n"), sig)
	}
}

// A signature of another version, hash or algorithm does not verify, and the
// error says so.
func TestVerifyRefuses(t *testing.T) {
	path, _ := pair(t, "")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	good, err := s.Sign("a", []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	armor := func(change func(*signature)) []byte {
		sig, err := parse(good)
		if err != nil {
			t.Fatal(err)
		}
		change(&sig)
		return pem.EncodeToMemory(&pem.Block{Type: armorType, Bytes: append([]byte(magic), ssh.Marshal(sig)...)})
	}
	for want, sig := range map[string][]byte{
		"version 2":            armor(func(s *signature) { s.Version = 2 }),
		`hash is "md5"`:        armor(func(s *signature) { s.Hash = "md5" }),
		"not of this message":  armor(func(s *signature) { s.Reserved = "x" }), // it is signed, too
		"read the signature":   armor(func(s *signature) { s.Signature = []byte("x") }),
		"begins with -----":    []byte(strings.Repeat("x", 64)), // what versions before this format sent
		"not begin with":       pem.EncodeToMemory(&pem.Block{Type: armorType, Bytes: []byte("x")}),
		"none of the known":    armor(func(s *signature) { s.PublicKey = nil }),
		`namespace "another"`:  armor(func(s *signature) { s.Namespace = "another" }),
		"not of this message:": armor(func(s *signature) { s.Hash = "sha256" }),
	} {
		if err := verify([]Key{s.Key}, "a", []byte("message"), sig); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	path, _ := pair(f, "")
	s, err := Open(path, nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.Sign("a", []byte("message"))
	if err != nil {
		f.Fatal(err)
	}
	want, err := parse(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: armorType, Bytes: []byte(magic)}))
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, armored []byte) {
		if verify([]Key{s.Key}, "a", []byte("message"), armored) != nil {
			return
		}
		if got, err := parse(armored); err != nil || !bytes.Equal(got.Signature, want.Signature) {
			t.Errorf("%q verifies", armored)
		}
	})
}
