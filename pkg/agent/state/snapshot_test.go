package state

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-dev/muster/pkg/api"
)

// fullLab holds something of everything that a snapshot can hold.
func fullLab(t testing.TB) *lab {
	l := newLab(t)
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "app/a", Value: []byte("one\x00\xff"), Flags: 1<<64 - 1}})
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "app/\x00", Value: []byte{}}})
	l.put("gone", "1")
	l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: "gone"}})
	r := withID(register("Node-1", service("web-1", "web", "b", "a"), check("serfHealth", "", "passing"), check("http", "web-1", "warning")), uuid1)
	r.Node.Meta = map[string]string{"rack": "1", "a": "b"}
	r.Node.TaggedAddresses = map[string]string{"wan": "1.2.3.4", "lan": "10.0.0.1"}
	r.Service.Kind, r.Service.Address, r.Service.SocketPath = "typical", "10.0.0.9", "/run/s"
	r.Service.Meta = map[string]string{"v": "2", "u": ""}
	r.Service.TaggedAddresses = map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 8}, "lan": {}}
	r.Service.Weights = api.Weights{Passing: 10}
	r.Service.EnableTagOverride = true
	d := r.Checks[1]
	d.Notes, d.Output, d.Interval, d.Timeout, d.ExposedPort = "note", "out", "10s", "1s", 9
	d.Definition = api.HealthCheckDefinition{
		HTTP: "http://x", TLSServerName: "x", TLSSkipVerify: true, Method: "GET", Body: "b",
		Header: map[string][]string{"X": {"1", "2"}, "A": nil}, Interval: 1e10, Timeout: 1e9, DeregisterCriticalServiceAfter: 36e11,
	}
	l.must(r)
	l.must(register("node-2", service("db", "db")))
	l.must(&Deregister{Node: "node-2"})
	l.must(&Deregister{Node: "node-1", CheckID: "none"})
	return l
}

func TestSnapshotsOfEqualLogsAreEqual(t *testing.T) {
	a, b := fullLab(t).bytes(), fullLab(t).bytes()
	if !bytes.Equal(a, b) {
		t.Error("the same log gave other bytes")
	}
}

func TestRestoreKeepsEverything(t *testing.T) {
	l := fullLab(t)
	want := l.bytes()
	s := New()
	s.ApplyBatch([]Entry{l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: "to be replaced"}}, 999)})
	if err := s.Restore(iotest.OneByteReader(bytes.NewReader(want))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, snapshotBytes(t, s)) {
		t.Error("a restored state gives other bytes")
	}
	if s.root.stats != l.s.root.stats || s.root.dead != l.s.root.dead {
		t.Errorf("counts are %+v %v, want %+v %v", s.root.stats, s.root.dead, l.s.root.stats, l.s.root.dead)
	}
	next := []Entry{
		l.entry(register("node-1", service("web-1", "web"), check("http", "web-1", "passing")), 100),
		l.entry(&Deregister{Node: "node-1", ServiceID: "web-1"}, 101),
		l.entry(&KV{Op: KVDeleteTree}, 102),
	}
	l.s.ApplyBatch(next)
	s.ApplyBatch(next)
	if !bytes.Equal(l.bytes(), snapshotBytes(t, s)) {
		t.Error("after the same writes a restored state gives other bytes")
	}
}

func TestRestoreIsAllOrNothing(t *testing.T) {
	l := fullLab(t)
	good := l.bytes()
	for n := range good {
		damaged := bytes.Clone(good)
		damaged[n] ^= 0x10
		if err := l.s.Restore(bytes.NewReader(damaged)); err == nil {
			t.Fatalf("a flipped bit in byte %d of %d was not noticed", n, len(good))
		}
		if err := l.s.Restore(bytes.NewReader(good[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for the whole", n, len(good))
		}
	}
	newer := bytes.Clone(good)
	newer[len(snapshotMagic)] = snapshotVersion + 1
	for _, tc := range []struct {
		in   io.Reader
		want string
	}{
		{bytes.NewReader(newer), "read state snapshot: format version 2 is not known here (newest is 1): upgrade this server"},
		{strings.NewReader("PK\x03\x04 something else entirely"), "read state snapshot: this is no muster state snapshot"},
		{bytes.NewReader(append(bytes.Clone(good), 0)), "read state snapshot: something follows its end"},
		{bytes.NewReader(good[:len(good)-9]), "read state snapshot: record 23: it ends too early: the file is damaged"},
		{iotest.ErrReader(errors.New("disk on fire")), "read state snapshot: disk on fire"},
	} {
		if err := l.s.Restore(tc.in); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
	if !bytes.Equal(good, l.bytes()) {
		t.Error("a failed restore has changed the state")
	}
}

func TestWriteReportsErrors(t *testing.T) {
	err := fullLab(t).sn.Write(failingWriter{})
	if err == nil || err.Error() != "write state snapshot at index 17: no space left" {
		t.Errorf("error is %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

var update = flag.Bool("update", false, "write the golden file of a NEW snapshot version")

// The golden file was written by the first program that knew this version. Each
// later one must read it and write the same; never change it, add another.
func TestGoldenSnapshot(t *testing.T) {
	const file = "testdata/snapshot-v1.bin"
	l := fullLab(t)
	if *update {
		if err := os.WriteFile(file, l.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(bytes.NewReader(golden)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, snapshotBytes(t, s)) {
		t.Error("what was read from the golden file is written differently")
	}
	if !bytes.Equal(golden, l.bytes()) {
		t.Error("the same log gives another snapshot than it did when the golden file was written")
	}
	rows, meta := s.Snapshot().HealthService("web", Select{})
	if len(rows) != 1 || rows[0].Checks[1].Definition.Interval.String() != "10s" || rows[0].Service.TaggedAddresses["wan"].Port != 8 || meta.Index != 14 {
		t.Errorf("web is %s at %d", asJSON(t, rows), meta.Index)
	}
	if e, _ := s.Snapshot().KVGet("app/a"); e == nil || string(e.Value) != "one\x00\xff" || e.Flags != 1<<64-1 || e.ModifyIndex != 10 {
		t.Errorf("app/a is %+v", e)
	}
	if _, meta := s.Snapshot().KVGet("gone"); meta.Index != 13 {
		t.Errorf("gone went at %d", meta.Index)
	}
}

// Commands of version 1 as they lie in logs: these bytes must stay readable.
func TestGoldenCommands(t *testing.T) {
	for _, tc := range []struct {
		cmd  Command
		want string
	}{
		{&KV{Op: KVCAS, Entry: api.KVPair{Key: "k", Value: []byte("v"), Flags: 7, Session: "s"}, Index: 9},
			"\x03\x01\x86\xa1f\x07\xa1i\x09\xa1k\xa1k\xa1o\xa3cas\xa1s\xa1s\xa1v\xc4\x01v"},
		{&Deregister{Node: "n", ServiceID: "s", CheckID: "c"}, "\x02\x01\x83\xa7CheckID\xa1c\xa4Node\xa1n\xa9ServiceID\xa1s"},
	} {
		data, err := Encode(tc.cmd)
		if err != nil || string(data) != tc.want {
			t.Errorf("%T is encoded as %q, %v; want %q", tc.cmd, data, err, tc.want)
		}
		back, err := Decode([]byte(tc.want))
		if err != nil || asJSON(t, back) != asJSON(t, tc.cmd) {
			t.Errorf("%q reads back as %s, %v", tc.want, asJSON(t, back), err)
		}
	}
	for _, name := range []string{"register", "txn"} {
		file := "testdata/command-" + name + "-v1.bin"
		cmd := map[string]Command{
			"register": &Register{Node: &api.Node{Node: "n", Address: "10.0.0.1", Meta: map[string]string{"a": "b"}}, Service: service("w", "web", "a"), Checks: []*api.HealthCheck{check("c", "w", "passing")}},
			"txn":      &Txn{Ops: ops(t, `[{"KV":{"Verb":"set","Key":"k","Value":"dg=="}},{"Node":{"Verb":"get","Node":{"Node":"n"}}},{"Service":{"Verb":"delete","Node":"n","Service":{"Service":"web"}}},{"Check":{"Verb":"set","Check":{"Node":"n","Name":"c"}}}]`)},
		}[name]
		data, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(golden)
		if err != nil || asJSON(t, back) != asJSON(t, cmd) || !bytes.Equal(data, golden) {
			t.Errorf("%s reads back as %s, %v", file, asJSON(t, back), err)
		}
	}
}
