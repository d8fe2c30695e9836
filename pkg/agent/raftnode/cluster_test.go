package raftnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// maxWait is for conditions that take a second or three on an idle machine.
const maxWait = 60 * time.Second

// tape is a state machine that remembers every command.
type tape struct {
	mu    sync.Mutex
	lines []string
}

func (f *tape) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	results := make([]any, len(logs))
	for i, log := range logs {
		commands := strings.Split(string(log.Data), groupMark)
		each := make([]any, len(commands))
		for j, line := range commands {
			f.lines = append(f.lines, line)
			each[j] = fmt.Sprintf("%d:%s", len(f.lines), line)
		}
		if results[i] = each; len(each) == 1 {
			results[i] = each[0]
		}
	}
	return results
}

const groupMark = "\x00"

func group(commands [][]byte) []byte { return bytes.Join(commands, []byte(groupMark)) }

func (f *tape) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

func (f *tape) Lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

func (f *tape) Snapshot() (raft.FSMSnapshot, error) { return tapeSnapshot(f.Lines()), nil }

func (f *tape) Restore(r io.ReadCloser) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = nil
	return json.NewDecoder(r).Decode(&f.lines)
}

type tapeSnapshot []string

func (s tapeSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s tapeSnapshot) Release() {}

// member is one server of a cluster in this process.
type member struct {
	*Node
	id, addr, dir string
	tape          *tape
	leaderships   *leaderships
	said          *said
	stop          func() error // hands over, stops and waits
	ended         chan struct{}
	die           func() // closes the port and every connection
	deafen        func() // closes the port alone

	barriers sync.Mutex
	barrier  uint64 // the term in which one has been done
}

// deafened is a listener that can be closed without its owner noticing.
type deafened struct {
	net.Listener
	deaf   atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (d *deafened) deafen() {
	d.deaf.Store(true)
	_ = d.Listener.Close()
}

func (d *deafened) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil && d.deaf.Load() {
		<-d.closed
	}
	return c, err
}

func (d *deafened) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

// leaderships is what OnLeader was told.
type leaderships struct {
	mu  sync.Mutex
	all []bool
}

func (r *leaderships) note(leader bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, leader)
}

func (r *leaderships) list() []bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// reports is a log.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

type cluster struct {
	t       *testing.T
	id      *mux.Identity
	mu      sync.Mutex
	members map[string]*member // the newest run of each, by id
	confirm bool               // servers ask each other whether the leader is dead
	spoil   string             // servers made from now on cannot apply it
	named   bool               // servers have an identity
	wires   *wires             // what goes between servers that are made from now on
	slow    int                // multiplier of their timers
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) }) // runs last
	id, err := mux.LoadIdentity(mux.Files{}, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, id: id, members: map[string]*member{}}
}

func (c *cluster) addressOf(id string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		return m.addr, true
	}
	return "", false
}

func (c *cluster) nameOf(addr string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, m := range c.members {
		if m.addr == addr {
			return id
		}
	}
	return ""
}

func (c *cluster) ask(ctx context.Context, voter raft.Server, leader string, term uint64) (ProbeReport, error) {
	c.mu.Lock()
	m := c.members[string(voter.ID)]
	c.mu.Unlock()
	return m.ProbeLeader(ctx, leader, term)
}

// prepare makes a server with its port, on a new address; dir "" is memory.
func (c *cluster) prepare(id, dir string) (*member, func() error) {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	open := &deafened{Listener: ln, closed: make(chan struct{})}
	port := mux.New(mux.Config{Listener: open, Identity: c.id, HandshakeTimeout: 5 * time.Second, MaxHandshakes: 64, MaxConns: 1024, Logger: logx.Discard()})
	m := &member{id: id, addr: ln.Addr().String(), dir: dir, tape: &tape{}, leaderships: &leaderships{}, said: &said{}, deafen: open.deafen}
	var ask func(context.Context, raft.Server, string, uint64) (ProbeReport, error)
	if c.confirm {
		ask = c.ask
	}
	fsm := FSM(m.tape)
	if c.spoil != "" {
		fsm = &refusing{tape: m.tape, what: c.spoil, fail: func(err error) { m.Fail(err) }}
	}
	var identity *clusterid.Identity
	if c.named {
		if identity, err = clusterid.Open(dir, id); err != nil {
			c.t.Fatal(err)
		}
	}
	dial := mux.NewDialer(c.id, 5*time.Second).DialRaft
	if c.wires != nil {
		dial = c.wires.dialer(id, c.nameOf, dial)
	}
	m.Node = New(Config{
		ID: id, Address: m.addr, DataDir: dir, FSM: fsm, Group: group, Identity: identity, Multiplier: max(c.slow, 1),
		Listener: port.Raft(), Dial: dial, AddressOf: c.addressOf,
		OnLeader: m.leaderships.note, AskPeer: ask, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 1, Logger: logx.New(m.said, logx.LevelTrace, false),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := port.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	return m, func() error { cancel(); running.Wait(); return nil }
}

func (c *cluster) start(id, dir string) *member {
	c.t.Helper()
	m, stopPort := c.prepare(id, dir)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	m.ended = make(chan struct{})
	go func() {
		ended <- m.Run(ctx)
		close(m.ended)
	}()
	m.die = func() {
		_ = stopPort()
		m.current().stream.closeAll()
	}
	m.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, stopPort())
	})
	c.t.Cleanup(func() {
		err := m.stop()
		if err != nil && !errors.Is(err, ErrCommittedDeleted) && !errors.Is(err, clusterid.ErrOutdated) { // what a test provokes, it judges itself
			c.t.Errorf("stop %s: %v", id, err)
		}
	})
	if err := m.Started(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.members[id] = m
	c.mu.Unlock()
	return m
}

// found starts servers a, b, ... on disk and makes them a cluster.
func (c *cluster) found(n int) []*member {
	c.t.Helper()
	var all []*member
	for i := range n {
		all = append(all, c.start(string(rune('a'+i)), c.t.TempDir()))
	}
	for _, m := range all {
		if err := m.Bootstrap(voters(all)); err != nil {
			c.t.Fatal(err)
		}
	}
	return all
}

func voters(members []*member) []raft.Server {
	var servers []raft.Server
	for _, m := range members {
		servers = append(servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(m.id), Address: raft.ServerAddress(m.addr),
		})
	}
	return servers
}

// leader waits for one that all of them follow and that has done its barrier.
func (c *cluster) leader(members []*member) *member {
	c.t.Helper()
	var leader *member
	until(c.t, "all follow one leader", func() bool {
		for _, m := range members {
			if !m.IsLeader() {
				continue
			}
			for _, other := range members {
				if id, addr := other.Leader(); id != m.id || addr != m.addr {
					return false
				}
			}
			leader = m
			return m.Barrier(c.t.Context()) == nil
		}
		return false
	})
	return leader
}

// write proposes until it is taken, by whoever leads.
func (c *cluster) write(members []*member, line string) {
	c.t.Helper()
	until(c.t, "somebody takes "+line, func() bool {
		for _, m := range members {
			_, err := m.Propose(c.t.Context(), Command{Data: []byte(line)})
			if err == nil {
				return true
			}
			if !errors.Is(err, api.ErrNoLeader) {
				c.t.Fatalf("propose %s: %v", line, err)
			}
		}
		return false
	})
}

func (c *cluster) wantLines(members []*member, want ...string) {
	c.t.Helper()
	for _, m := range members {
		until(c.t, m.id+" has every line", func() bool { return len(m.tape.Lines()) >= len(want) })
		if got := m.tape.Lines(); !slices.Equal(got, want) {
			c.t.Errorf("%s holds %d lines, %.300q, want %d, %.300q", m.id, len(got), fmt.Sprint(got), len(want), fmt.Sprint(want))
		}
	}
}

// until waits for a condition that other goroutines bring about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(maxWait); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", maxWait, what)
		}
	}
}
