package raftnode

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/agent/hclogx"
	"github.com/muster-dev/muster/pkg/logx"
)

// slowDisk is raft's stores with writes that can be stopped on the way, and all
// that was written to the stable one.
type slowDisk struct {
	*raft.InmemStore
	mu      sync.Mutex
	wrote   []written
	stop    func(what string, val uint64) bool // this write waits for pass
	stopped chan struct{}
	pass    chan struct{}
}

type written struct {
	key string
	val []byte
}

func (d *slowDisk) wait(what string, val uint64) {
	d.mu.Lock()
	stop, stopped, pass := d.stop != nil && d.stop(what, val), d.stopped, d.pass
	if stop {
		d.stop = nil
	}
	d.mu.Unlock()
	if stop {
		close(stopped)
		<-pass
	}
}

// hold stops the next write that fits.
func (d *slowDisk) hold(what string, val uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped, d.pass = make(chan struct{}), make(chan struct{})
	d.stop = func(w string, v uint64) bool { return w == what && v == val }
}

// let ends what hold began.
func (d *slowDisk) let() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop = nil
	if d.pass != nil {
		close(d.pass)
		d.pass = nil
	}
}

func (d *slowDisk) note(key, val []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrote = append(d.wrote, written{string(key), bytes.Clone(val)})
}

func (d *slowDisk) SetUint64(key []byte, val uint64) error {
	d.wait(string(key), val)
	d.note(key, binary.BigEndian.AppendUint64(nil, val))
	return d.InmemStore.SetUint64(key, val)
}

func (d *slowDisk) Set(key, val []byte) error {
	d.note(key, val)
	return d.InmemStore.Set(key, val)
}

func (d *slowDisk) StoreLogs(logs []*raft.Log) error {
	d.wait("log", logs[0].Index)
	return d.InmemStore.StoreLogs(logs)
}

// voteStore goes through what was written: the terms, and who got the vote in each.
func (d *slowDisk) votesByTerm(t *testing.T) map[uint64]string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var term, voteTerm uint64
	votes := map[uint64]string{}
	for _, w := range d.wrote {
		switch w.key {
		case "CurrentTerm":
			now := binary.BigEndian.Uint64(w.val)
			if now < term {
				t.Errorf("term %d was stored after term %d", now, term)
			}
			term = now
		case "LastVoteTerm":
			voteTerm = binary.BigEndian.Uint64(w.val)
		case "LastVoteCand":
			if had, ok := votes[voteTerm]; ok && had != string(w.val) {
				t.Errorf("in term %d %q and %q got the vote", voteTerm, had, w.val)
			}
			votes[voteTerm] = string(w.val)
		}
	}
	return votes
}

// plain is a StreamLayer of bare TCP.
type plain struct{ net.Listener }

func (plain) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

// follower is one server f of three, of raft's own parts but for the transport, and
// a connection to it for the words of the others, x and y.
type follower struct {
	t    *testing.T
	raft *raft.Raft
	disk *slowDisk
	addr raft.ServerAddress
	from *raft.NetworkTransport
}

func newFollower(t *testing.T, beatTimeout time.Duration) *follower {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	listen := func() plain {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return plain{ln}
	}
	stream := listen()
	f := &follower{t: t, disk: &slowDisk{InmemStore: raft.NewInmemStore()}, addr: raft.ServerAddress(stream.Addr().String())}
	f.from = raft.NewNetworkTransport(listen(), 3, 5*time.Second, io.Discard)
	var running atomic.Pointer[raft.Raft]
	done := make(chan struct{})
	log := hclogx.New(logx.Discard())
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: stream, MaxPool: 1, Timeout: maxWait, Logger: log})
	trans := newTransport(inner, Config{ID: "f", Address: string(f.addr)}, &running, &acks{self: "f"}, done)
	var helpers sync.WaitGroup
	helpers.Go(trans.run)

	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "f", log
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = beatTimeout, beatTimeout, beatTimeout/2
	snaps := raft.NewInmemSnapshotStore()
	servers := raft.Configuration{Servers: []raft.Server{{ID: "f", Address: f.addr}, {ID: "x", Address: "x"}, {ID: "y", Address: "y"}}}
	if err := raft.BootstrapCluster(c, f.disk, f.disk, snaps, trans, servers); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, &tape{}, f.disk, f.disk, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	running.Store(r)
	f.raft = r
	t.Cleanup(func() {
		f.disk.let()
		f.from.CloseStreams()
		_ = f.from.Close()
		stopped := r.Shutdown()
		_ = trans.Close()
		if err := stopped.Error(); err != nil {
			t.Error(err)
		}
		trans.CloseStreams()
		close(done)
		helpers.Wait()
	})
	return f
}

func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

// heartbeat is a heartbeat, or with an index an entry.
func (f *follower) beat(leader string, term, index uint64) raft.AppendEntriesResponse {
	req := &raft.AppendEntriesRequest{RPCHeader: header(leader), Term: term}
	if index > 0 {
		req.PrevLogEntry, req.PrevLogTerm = index-1, 1
		req.Entries = []*raft.Log{{Index: index, Term: term, Type: raft.LogCommand, Data: []byte("x")}}
	}
	var resp raft.AppendEntriesResponse
	if err := f.from.AppendEntries("f", f.addr, req, &resp); err != nil {
		f.t.Error(err)
	}
	return resp
}

func (f *follower) vote(candidate string, term uint64) raft.RequestVoteResponse {
	req := &raft.RequestVoteRequest{RPCHeader: header(candidate), Term: term, LastLogIndex: 9, LastLogTerm: term, LeadershipTransfer: true}
	var resp raft.RequestVoteResponse
	if err := f.from.RequestVote("f", f.addr, req, &resp); err != nil {
		f.t.Error(err)
	}
	return resp
}

// TestHeartbeatTakesNoTermBack: the disk is slow with the term of a leader's first
// heartbeat, while a candidate asks for the vote in the next term; then this server
// has to stand.
func TestHeartbeatTakesNoTermBack(t *testing.T) {
	f := newFollower(t, time.Minute)
	if resp := f.beat("x", 5, 0); !resp.Success || resp.Term != 5 {
		t.Fatalf("the heartbeat of term 5: %+v", resp)
	}
	f.disk.hold("CurrentTerm", 6)
	var asking sync.WaitGroup
	asking.Go(func() { f.beat("x", 6, 0) })
	<-f.disk.stopped
	voted := make(chan struct{})
	asking.Go(func() {
		defer close(voted)
		if resp := f.vote("y", 7); !resp.Granted {
			t.Errorf("the vote: %+v", resp)
		}
	})
	select {
	case <-voted: // beside the heartbeat
	case <-time.After(300 * time.Millisecond):
	}
	f.disk.let()
	asking.Wait()
	if err := f.from.TimeoutNow("f", f.addr, &raft.TimeoutNowRequest{RPCHeader: header("y")}, &raft.TimeoutNowResponse{}); err != nil {
		t.Fatal(err)
	}
	until(t, "it votes for itself", func() bool { return f.disk.votesByTerm(t)[8] == string(f.addr) || t.Failed() })
	if got := f.disk.votesByTerm(t)[7]; got != "y" {
		t.Errorf("the vote of term 7 is %q's", got)
	}
}

// TestHeartbeatsDoNotWaitForTheDisk: a follower whose disk stands still for many
// times the heartbeat timeout goes on to answer its leader, and does not stand for
// election when the disk is there again.
func TestHeartbeatsDoNotWaitForTheDisk(t *testing.T) {
	f := newFollower(t, 200*time.Millisecond)
	f.beat("x", 5, 0)
	f.disk.hold("log", 2)
	var asking sync.WaitGroup
	asking.Go(func() {
		if resp := f.beat("x", 5, 2); !resp.Success {
			t.Errorf("the entry: %+v", resp)
		}
	})
	<-f.disk.stopped
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) {
		if resp := f.beat("x", 5, 0); !resp.Success || resp.Term != 5 {
			t.Fatalf("a heartbeat: %+v", resp)
		}
	}
	f.disk.let()
	asking.Wait()
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) {
		if resp := f.beat("x", 5, 0); !resp.Success || resp.Term != 5 {
			t.Fatalf("a heartbeat afterwards: %+v", resp)
		}
	}
	if f.raft.State() != raft.Follower || f.raft.CurrentTerm() != 5 {
		t.Errorf("it is a %v in term %d", f.raft.State(), f.raft.CurrentTerm())
	}
}

// TestHeartbeatsOfOthersGoToRaft: of another leader, and of terms that are over or
// new.
func TestHeartbeatsOfOthersGoToRaft(t *testing.T) {
	f := newFollower(t, time.Minute)
	for _, tt := range []struct {
		leader   string
		term     uint64
		success  bool
		wantTerm uint64
	}{{"x", 5, true, 5}, {"x", 5, true, 5}, {"x", 4, false, 5}, {"y", 7, true, 7}, {"x", 5, false, 7}, {"y", 7, true, 7}} {
		if resp := f.beat(tt.leader, tt.term, 0); resp.Success != tt.success || resp.Term != tt.wantTerm {
			t.Errorf("a heartbeat of %s in term %d: %+v", tt.leader, tt.term, resp)
		}
	}
	if _, id := f.raft.LeaderWithID(); id != "y" {
		t.Errorf("it follows %q", id)
	}
}
