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
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// fullLab holds something of everything that a snapshot can hold.
func fullLab(t testing.TB) *lab {
	l := fullLabV1(t)
	l.must(register("node-3", nil, check("serfHealth", "", "passing"), check("c", "", "warning")))
	l.must(&SessionCreate{api.Session{
		ID: "s-1", Name: "one", Node: "node-3", LockDelay: 15 * time.Second, Behavior: api.SessionDelete, TTL: "30s",
		NodeChecks: []string{"serfHealth"}, ServiceChecks: []api.SessionServiceCheck{{ID: "c"}},
	}})
	l.must(&SessionCreate{api.Session{ID: "s-2", Node: "node-3", LockDelay: 1, Behavior: api.SessionRelease, NodeChecks: []string{}}})
	l.must(&SessionCreate{api.Session{ID: "s-3", Node: "node-1", LockDelay: time.Hour, Behavior: api.SessionRelease}})
	l.must(&KV{Op: KVLock, Entry: api.KVPair{Key: "lock/a", Value: []byte("v"), Session: "s-1"}})
	l.must(&KV{Op: KVLock, Entry: api.KVPair{Key: "lock/b", Session: "s-2"}, TTL: time.Hour})
	l.must(&KV{Op: KVLock, Entry: api.KVPair{Key: "lock/c", Session: "s-3"}})
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "brief"}, TTL: time.Minute})
	l.must(&SessionDestroy{"s-3"})
	l.must(&EventFire{ID: "e-1", Name: "deploy", Payload: []byte("v1\x00"), TTL: time.Hour})
	l.must(&EventFire{ID: "e-2", Name: "deploy", TTL: time.Minute})
	l.must(&EventAck{"e-1", "node-3"})
	l.must(&EventAck{"e-1", "node-1"})
	l.must(newJob(uuid2, []string{"node-1", "node-3", "none"}, func(o *api.ExecOrder) { o.Parallel, o.Timeout = 2, api.Duration(time.Minute) }))
	l.must(&JobClaim{Job: uuid2, Node: "Node-1", Claim: "life"})
	l.must(&JobReport{[]api.ExecResult{{Job: uuid2, Node: "node-1", Claim: "life", State: api.ExecFailed, Code: 3, Error: "e", Chunks: 4, Truncated: true}}})
	l.must(newJob(uuid3, []string{"node-1"}))
	l.must(&JobStop{uuid3})
	return l
}

// fullLabV1 is what the first version of snapshots could hold. It is never
// changed: a golden file was made of it.
func fullLabV1(t testing.TB) *lab {
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
	if s.root.stats != l.s.root.stats || s.root.tombstones != l.s.root.tombstones {
		t.Errorf("counts are %+v %v, want %+v %v", s.root.stats, s.root.tombstones, l.s.root.stats, l.s.root.tombstones)
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
		{bytes.NewReader(newer), "read state snapshot: format version 4 is not known here (newest is 3): written by a newer version: upgrade this server"},
		{strings.NewReader("PK\x03\x04 something else entirely"), "read state snapshot: this is no muster state snapshot"},
		{bytes.NewReader(append(bytes.Clone(good), 0)), "read state snapshot: something follows its end"},
		{bytes.NewReader(good[:len(good)-9]), "read state snapshot: record 66: it ends too early: the file is damaged"},
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
	if err == nil || err.Error() != "write state snapshot at index 35: no space left" {
		t.Errorf("error is %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

var update = flag.Bool("update", false, "write the golden file of a NEW snapshot version")

// A golden file was written by the first program that knew its version. Each
// later one must read it; the newest is written the same. Never change one, add
// another.
func TestGoldenSnapshot(t *testing.T) {
	checkGolden(t, restoreGolden(t, "testdata/snapshot-v1.bin", fullLabV1(t)))
	const file = "testdata/snapshot-v2.bin"
	l := fullLab(t)
	if *update {
		if err := os.WriteFile(file, l.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := restoreGolden(t, file, l)
	golden, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(golden, l.bytes()) {
		t.Error("the same log gives another snapshot than it did when the golden file was written")
	}
	checkGolden(t, s)
	sessions, _ := s.Snapshot().Sessions()
	if len(sessions) != 2 || sessions[0].ServiceChecks[0].ID != "c" || sessions[1].NodeChecks == nil || s.Snapshot().LockToken("lock/a") != 22 {
		t.Errorf("sessions are %s, the token %d", asJSON(t, sessions), s.Snapshot().LockToken("lock/a"))
	}
	events, _ := s.Snapshot().EventLogAcks("deploy", 0)
	if len(events) != 2 || string(events[0].Payload) != "v1\x00" || events[0].Acks != 2 || events[1].Expires != labTime.Add(time.Minute).UTC() {
		t.Errorf("events are %s", asJSON(t, events))
	}
}

// restoreGolden reads a golden file that was made of what l holds.
func restoreGolden(t *testing.T, file string, l *lab) *Store {
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(bytes.NewReader(golden)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(l.bytes(), snapshotBytes(t, s)) {
		t.Errorf("what was read from %s is not what it was made of", file)
	}
	return s
}

func checkGolden(t *testing.T, s *Store) {
	t.Helper()
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

// Commands as they lie in logs: these bytes must stay readable, those of version
// 1 are what a cluster with an old server still writes.
func TestGoldenCommands(t *testing.T) {
	for _, tc := range []struct {
		cmd  Command
		want string
	}{
		{&KV{Op: KVCAS, Entry: api.KVPair{Key: "k", Value: []byte("v"), Flags: 7, Session: "s"}, Index: 9},
			"\x03\x01\x86\xa1f\x07\xa1i\x09\xa1k\xa1k\xa1o\xa3cas\xa1s\xa1s\xa1v\xc4\x01v"},
		{&Deregister{Node: "n", ServiceID: "s", CheckID: "c"}, "\x02\x01\x83\xa7CheckID\xa1c\xa4Node\xa1n\xa9ServiceID\xa1s"},
	} {
		data, err := Encode(tc.cmd, labTime, 1)
		if err != nil || string(data) != tc.want {
			t.Errorf("%T is encoded as %q, %v; want %q", tc.cmd, data, err, tc.want)
		}
		back, _, err := Decode([]byte(tc.want))
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
		data, err := Encode(cmd, labTime, 1)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := Decode(golden)
		if err != nil || asJSON(t, back) != asJSON(t, cmd) || !bytes.Equal(data, golden) {
			t.Errorf("%s reads back as %s, %v", file, asJSON(t, back), err)
		}
	}
}

func TestGoldenCommandsOfVersion2(t *testing.T) {
	const head = "\x02\x18\xfa\xe2\x76\x93\xb4\x00\x00" // version and labTime
	for _, tc := range []struct {
		cmd  Command
		want string
	}{
		{&KV{Op: KVLock, Entry: api.KVPair{Key: "k", Session: "s"}, TTL: time.Second, Fence: &Fence{"l", 9}},
			"\x03" + head + "\x85\xa1k\xa1k\xa1n\x82\xa1k\xa1l\xa1t\x09\xa1o\xa4lock\xa1s\xa1s\xa1t\xd2\x3b\x9a\xca\x00"},
		{&Deregister{Node: "n", Left: true}, "\x02" + head + "\x84\xa7CheckID\xa0\xa4Left\xc3\xa4Node\xa1n\xa9ServiceID\xa0"},
		{&SessionDestroy{"s"}, "\x06" + head + "\x81\xa2ID\xa1s"},
		{&Reap{}, "\x07" + head + "\x80"},
		{&EventFire{ID: "e", Name: "x", Payload: []byte("p"), TTL: time.Second}, "\x08" + head + "\x84\xa2ID\xa1e\xa4Name\xa1x\xa7Payload\xc4\x01p\xa3TTL\xd2\x3b\x9a\xca\x00"},
		{&EventAck{"e", "n"}, "\x09" + head + "\x82\xa2ID\xa1e\xa4Node\xa1n"},
	} {
		data, err := Encode(tc.cmd, labTime, Level)
		if err != nil || string(data) != tc.want {
			t.Errorf("%T is encoded as %q, %v; want %q", tc.cmd, data, err, tc.want)
		}
		back, now, err := Decode([]byte(tc.want))
		if err != nil || asJSON(t, back) != asJSON(t, tc.cmd) || now != labTime.UnixNano() {
			t.Errorf("%q reads back as %s at %d, %v", tc.want, asJSON(t, back), now, err)
		}
	}
}

// What an old server could not apply is not written where there is one.
func TestCommandsAreRefusedBelowTheirLevel(t *testing.T) {
	for _, cmd := range []Command{&SessionCreate{}, &SessionDestroy{}, &Reap{}, &EventFire{}, &EventAck{}, &KV{Op: KVSet, TTL: 1}, &KV{Op: KVSet, Fence: &Fence{}}} {
		const want = "not possible yet: it needs every server at feature level 2, but one is at 1: upgrade all servers"
		if _, err := Encode(cmd, labTime, 1); err == nil || err.Error() != want {
			t.Errorf("%T: error is %v", cmd, err)
		}
		if _, err := Encode(cmd, labTime, 2); err != nil {
			t.Errorf("%T: %v", cmd, err)
		}
	}
}

// What nobody could decode is not written at all.
func TestCommandsThatNobodyKnowsAreRefused(t *testing.T) {
	for want, cmd := range map[string]Command{
		`unknown KV verb "frob"`: &KV{Op: "frob", Entry: api.KVPair{Key: "a"}},
		"read the order":         &JobCreate{},
	} {
		if _, err := Encode(cmd, labTime, Level); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: error is %v, want %q", cmd, err, want)
		}
	}
}
