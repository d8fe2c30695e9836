package state

import (
	"bytes"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// Whatever lies in a log entry, applying it gives a result, never a panic, and
// leaves a state that can be written and read back.
func FuzzApply(f *testing.F) {
	seeds := []Command{
		register("n", service("w", "web", "a"), check("c", "w", "passing"), check("serfHealth", "", "critical")),
		withID(register("m", nil), uuid1),
		&Deregister{Node: "n"},
		&KV{Op: KVDeleteTree},
		&EventFire{ID: "e", Name: "x", Payload: []byte("p"), TTL: 1},
		&EventAck{"e-1", "node-1"},
		&Reap{},
		&KV{Op: KVCAS, Entry: api.KVPair{Key: "k", Value: []byte("v")}, Index: 1},
		&Txn{Ops: []*api.TxnOp{nil, {}, {KV: &api.TxnKVOp{Verb: "get-tree", Key: "k"}}, {Service: &api.TxnServiceOp{Verb: "set", Node: "n"}}, {Check: &api.TxnCheckOp{Verb: "set"}}}},
		newJob(uuid1, []string{"node-1"}), &JobClaim{uuid2, "node-3", "x"}, &JobStop{uuid2}, &JobReap{},
		&JobReport{[]api.ExecResult{{Job: uuid2, Node: "node-3", State: api.ExecLost}, {Job: uuid2, Node: "none", State: "odd"}}},
	}
	seeds = append(seeds,
		&SessionCreate{api.Session{ID: "s", Node: "node-1", TTL: "x", NodeChecks: []string{"http", "http"}, LockDelay: -1}},
		&SessionDestroy{"s-1"},
		&Reap{},
		&KV{Op: KVLock, Entry: api.KVPair{Key: "k", Session: "s-1"}, TTL: 1<<63 - 1, Fence: &Fence{Key: "lock/a", Token: 22}},
		&Txn{Ops: []*api.TxnOp{{KV: &api.TxnKVOp{Verb: "unlock", Key: "lock/a", Session: "s-1"}}, {KV: &api.TxnKVOp{Verb: "delete-tree"}}}},
	)
	for _, cmd := range seeds {
		data, err := Encode(cmd, labTime, Level)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(grouped(f, seeds[:4]...)) // also of commands that nobody puts into one
	f.Add(grouped(f, seeds[7:9]...))
	f.Add([]byte{typeTxn, 1, 0x81, 0xa3, 'O', 'p', 's', 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add(append([]byte{typeRegister, 1}, bytes.Repeat([]byte{0x91}, 10_000)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := fullLab(t)
		results, _ := l.s.ApplyBatch([]Entry{{Index: 20, Data: data}, {Index: 21, Data: data}})
		for _, r := range results {
			if resp, ok := r.(*api.TxnResponse); ok && (resp.Errors == nil) != (resp.Results != nil) {
				t.Errorf("a transaction answers %+v", resp)
			}
		}
		want := l.bytes()
		s := New()
		if err := s.Restore(bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, snapshotBytes(t, s)) {
			t.Error("a restored state gives other bytes")
		}
	})
}

// Whatever a snapshot file holds, reading it ends with a state or an error.
func FuzzRestore(f *testing.F) {
	f.Add(fullLab(f).bytes())
	f.Add([]byte(snapshotMagic + "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The error says enough; that there is no panic is the point.
		_ = New().Restore(bytes.NewReader(data))
	})
}
