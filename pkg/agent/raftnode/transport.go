package raftnode

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's NetworkTransport with two things added.
//
// It numbers the messages to followers when they are sent, and records the answers: a
// proof of leadership and the lease of default reads rest on that (acks.go).
//
// And it does not pass heartbeats to raft beside raft's main goroutine. Raft v1.8.0 offers
// a handler for that, so that a follower which waits for its disk does not lose its
// leader. But that handler compares terms and states without a lock, and stores: if the
// heartbeat of a leader of term 6 arrives while the main goroutine begins term 7, it sets
// the term back to 6, after a vote may have been given. Here a heartbeat of the leader
// that is followed already, in the same term, is answered at once and changes nothing;
// raft's main goroutine gets it when it has time. Only the main goroutine gets any other
// heartbeat.
type transport struct {
	*raft.NetworkTransport // RequestVote, RequestPreVote, TimeoutNow, peers' encoding, Close
	header                 raft.RPCHeader
	raft                   *atomic.Pointer[raft.Raft]
	acks                   *acks

	heard      atomic.Pointer[contact]
	rpcs       chan raft.RPC
	heartbeats chan raft.RPC // one that was answered and that raft has not received
	done       <-chan struct{}
}

// contact is the newest message of a leader.
type contact struct {
	leader raft.ServerID
	term   uint64
	at     time.Time
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(inner *raft.NetworkTransport, cfg Config, running *atomic.Pointer[raft.Raft], acks *acks, done <-chan struct{}) *transport {
	id := raft.ServerID(cfg.ID)
	return &transport{
		NetworkTransport: inner,
		header: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax,
			ID:              []byte(id),
			Addr:            inner.EncodePeer(id, raft.ServerAddress(cfg.Address)),
		},
		raft:       running,
		acks:       acks,
		rpcs:       make(chan raft.RPC),
		heartbeats: make(chan raft.RPC, 1),
		done:       done,
	}
}

// Consumer is where raft receives messages.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// run passes messages on to raft, until done is closed.
func (t *transport) run() {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-t.NetworkTransport.Consumer():
			t.recordContact(rpc)
		case rpc = <-t.heartbeats:
		case <-t.done:
			return
		}
		if !t.deliver(rpc) {
			return
		}
	}
}

func (t *transport) deliver(rpc raft.RPC) bool {
	select {
	case t.rpcs <- rpc:
		return true
	case <-t.done:
		return false
	}
}

// recordContact records when a leader was heard, before raft's main goroutine has time.
func (t *transport) recordContact(rpc raft.RPC) {
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		t.heard.Store(&contact{raft.ServerID(req.ID), req.Term, time.Now()})
	case *raft.InstallSnapshotRequest:
		t.heard.Store(&contact{raft.ServerID(req.ID), req.Term, time.Now()})
	}
}

// heardFrom is when a leader was heard last in its term, the zero time for never.
func (t *transport) heardFrom(leader raft.ServerID, term uint64) time.Time {
	if c := t.heard.Load(); c != nil && c.leader == leader && c.term == term {
		return c.at
	}
	return time.Time{}
}

// SetHeartbeatHandler is called by raft, whose handler is not used.
func (t *transport) SetHeartbeatHandler(handler func(raft.RPC)) {
	if handler != nil {
		t.NetworkTransport.SetHeartbeatHandler(t.heartbeat)
	}
}

// heartbeat answers a heartbeat on the goroutine of its connection, or passes it on.
func (t *transport) heartbeat(rpc raft.RPC) {
	t.recordContact(rpc)
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || !t.follows(req) {
		t.deliver(rpc)
		return
	}
	rpc.Respond(&raft.AppendEntriesResponse{
		RPCHeader: t.header, Term: req.Term, LastLog: t.raft.Load().LastIndex(), Success: true,
	}, nil)
	select {
	case t.heartbeats <- raft.RPC{Command: req, RespChan: make(chan raft.RPCResponse, 1)}:
	default: // raft is busy and has one to process
	}
}

// follows says whether this server follows that leader in that term. The term is
// read last: at that moment no vote has been given in a later one.
func (t *transport) follows(req *raft.AppendEntriesRequest) bool {
	r := t.raft.Load()
	if r == nil || r.State() != raft.Follower {
		return false
	}
	_, leader := r.LeaderWithID()
	return leader != "" && leader == raft.ServerID(req.ID) && r.CurrentTerm() == req.Term
}

func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := t.acks.stamp()
	err := t.NetworkTransport.AppendEntries(id, target, req, resp)
	if err == nil && resp.Term == req.Term {
		t.acks.record(id, req.Term, sent)
	}
	return err
}

func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	sent := t.acks.stamp()
	err := t.NetworkTransport.InstallSnapshot(id, target, req, resp, data)
	if err == nil && resp.Term == req.Term {
		t.acks.record(id, req.Term, sent)
	}
	return err
}

func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		AppendPipeline: inner, id: id, acks: t.acks,
		sent: make(chan stamp, pipelined), answers: make(chan raft.AppendFuture), closed: make(chan struct{}),
	}
	p.running.Go(p.run)
	return p, nil
}

// pipelined is more requests than a pipeline of raft's default depth holds.
const pipelined = 16

// pipeline records the answers of raft's pipeline, which arrive in the order of the
// requests. Raft closes it in the end.
type pipeline struct {
	raft.AppendPipeline
	id      raft.ServerID
	acks    *acks
	sent    chan stamp // of requests that are not answered yet
	answers chan raft.AppendFuture
	running sync.WaitGroup
	closing sync.Once
	closed  chan struct{}
}

func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case p.sent <- p.acks.stamp():
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

func (p *pipeline) Close() error {
	err := p.AppendPipeline.Close()
	p.closing.Do(func() { close(p.closed) })
	p.running.Wait()
	return err
}

func (p *pipeline) run() {
	for {
		var answer raft.AppendFuture
		select {
		case answer = <-p.AppendPipeline.Consumer():
		case <-p.closed:
			return
		}
		sent := <-p.sent // put there before its request
		if answer.Error() == nil && answer.Response().Term == answer.Request().Term {
			p.acks.record(p.id, answer.Request().Term, sent)
		}
		select {
		case p.answers <- answer:
		case <-p.closed:
			return
		}
	}
}
