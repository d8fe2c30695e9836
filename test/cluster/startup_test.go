package cluster

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// unstarted is a server that was set up but does not run.
func unstarted(t *testing.T, flags ...string) *agent {
	t.Helper()
	return harness.New(t, flags...).Add("s1", true, "-bootstrap-expect=1")
}

// serves starts an agent and waits until it answers truthfully.
func serves(a *agent) {
	a.C.T.Helper()
	a.Start()
	a.C.AwaitReady()
}

// A port that is taken is found at once and named, whichever it is, and once it
// is free the agent starts on the same data.
func TestPortInUse(t *testing.T) {
	a := unstarted(t)
	serves(a)
	a.PutKey("kept", "yes")
	a.Kill()
	for _, tc := range []struct {
		network string
		port    int
		setting string
	}{
		{"tcp", 8500, "ports.http"}, {"tcp", 8600, "ports.dns"}, {"udp", 8600, "ports.dns"},
		{"tcp", 8300, "ports.server"}, {"tcp", 8301, "ports.serf_lan"}, {"udp", 8301, "ports.serf_lan"},
	} {
		port := strconv.Itoa(tc.port)
		free := take(t, tc.network, net.JoinHostPort(a.IP, port))
		mentions(t, refused(t, a.Flags...), a.IP, port, "in use", tc.setting)
		free()
	}
	serves(a)
	if got := a.GetKey("kept", nil); got != "yes" {
		t.Errorf("read %q", got)
	}
}

// take listens on an address until free is called.
func take(t *testing.T, network, addr string) (free func()) {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return func() { _ = conn.Close() }
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = ln.Close() }
}

// A data directory that cannot be written to is named.
func TestDataDirNotWritable(t *testing.T) {
	a := unstarted(t)
	file := writeFile(t, filepath.Join(a.C.Dir, "file"), "something else")
	for name, tc := range map[string]struct{ dir, named string }{
		"a file":          {file, file},
		"below a file":    {filepath.Join(file, "data"), file},
		"read-only disk":  {"/proc/muster", "/proc/muster"},
		"a file for raft": inPlaceOf(t, a.C.Dir, "raft"),
		"a file for serf": inPlaceOf(t, a.C.Dir, "serf"),
		"damaged node id": inPlaceOf(t, a.C.Dir, "node-id"),
		"a file for kept": inPlaceOf(t, a.C.Dir, "services"),
	} {
		t.Run(name, func(t *testing.T) {
			mentions(t, refused(t, append(a.Flags, "-data-dir="+tc.dir)...), tc.named)
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "something else" {
		t.Errorf("the file in its place was changed: %q, %v", text, err)
	}
}

// inPlaceOf puts a file where an agent wants to have something of its own.
func inPlaceOf(t *testing.T, dir, name string) struct{ dir, named string } {
	data := filepath.Join(dir, "with-"+name)
	return struct{ dir, named string }{data, writeFile(t, filepath.Join(data, name), "x")}
}

func TestDataDirLocked(t *testing.T) {
	a := single(t)
	a.PutKey("kept", "yes")
	other := a.C.Net + ".99"
	text := refused(t, append(a.Flags, "-bind="+other, "-client="+other)...)
	mentions(t, text, "data directory "+filepath.Join(a.C.Dir, "s1")+" is in use by another agent")
	if got := a.GetKey("kept", nil); got != "yes" {
		t.Errorf("read %q", got)
	}
}

// Data of a newer version is refused by name and left alone.
func TestDataOfNewerVersion(t *testing.T) {
	a := unstarted(t)
	serves(a)
	a.PutKey("kept", "yes")
	a.Kill()
	version := filepath.Join(a.C.Dir, "s1", "raft", "version")
	was, err := os.ReadFile(version)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, version, "99\n")
	mentions(t, refused(t, a.Flags...), "newer version", "format 99", filepath.Dir(version))
	writeFile(t, version, "no number")
	mentions(t, refused(t, a.Flags...), "damaged", version)
	writeFile(t, version, string(was))
	serves(a)
	if got := a.GetKey("kept", nil); got != "yes" {
		t.Errorf("read %q", got)
	}
}

// A damaged log is a loud refusal to start that names the file, never a wrong
// value and never silence.
func TestDamagedLog(t *testing.T) {
	a := unstarted(t)
	serves(a)
	for i := range 20 {
		a.PutKey(fmt.Sprintf("key/%d", i), "a value to look for")
	}
	a.Kill()
	path := filepath.Join(a.C.Dir, "s1", "raft", "log-00000001")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(good, []byte("a value to look for"))
	if at < 0 {
		t.Fatal("the log does not hold what was written to it")
	}
	edit := func(change func(data []byte) []byte) string {
		return string(change(bytes.Clone(good)))
	}
	for name, text := range map[string]string{
		"a flipped bit": edit(func(d []byte) []byte { return bytes.ReplaceAll(d, d[at:at+19], []byte("A value to look for")) }),
		"a lost tail":   edit(func(d []byte) []byte { return d[:len(d)/2] }),
		"zeroed head":   edit(func(d []byte) []byte { clear(d[:os.Getpagesize()]); return d }),
		"a zeroed page": edit(func(d []byte) []byte { clear(d[at&^4095:][:4096]); return d }),
		"zeroed whole":  edit(func(d []byte) []byte { clear(d); return d }),
		"other content": strings.Repeat("no log at all\n", 10_000),
		"empty":         "",
	} {
		writeFile(t, path, text)
		t.Run(name, func(t *testing.T) { mentions(t, refused(t, a.Flags...), path) })
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	t.Run("gone", func(t *testing.T) { mentions(t, refused(t, a.Flags...), path) })
	writeFile(t, path, string(good))
	serves(a)
	if got := a.GetKey("key/19", nil); got != "a value to look for" {
		t.Errorf("with the good file back: %q", got)
	}
}
