package server

import (
	"context"
	"fmt"
	"go.uber.org/goleak"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// deadline is for things that take a second or two on a machine that is not
// busy with something else.
const deadline = 60 * time.Second

// testTiming notices a dead member somewhat faster than the agent's.
var testTiming = gossip.Timing{
	ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond, GossipInterval: 100 * time.Millisecond,
	SuspicionMult: 6, RetransmitMult: 8, GossipNodes: 3,
}

// testServer is a whole server on 127.0.0.1: port, gossip, raft, state.
type testServer struct {
	closeIdle func() // closes the connections to other servers
	*Server
	t    *testing.T
	name string
	dir  string
	pool *gossip.Pool
	ln   net.Listener

	parts []part // in the order of their start
	line  *line
}

// line is what a server dials with. It can be cut.
type line struct {
	lock  sync.Mutex
	cut   bool
	conns []net.Conn
	dial  func(ctx context.Context, addr string) (net.Conn, error)
}

func (l *line) dialRaft(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := l.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.cut {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *line) close() {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.cut = true
	for _, conn := range l.conns {
		_ = conn.Close()
	}
}

type part struct {
	cancel context.CancelFunc
	done   chan error
}

type testOptions struct {
	name   string
	dir    string
	expect int
	addr   string // of the server port; "": any
	edit   func(*Config)
	run    func(*Server) func(context.Context) error // nil: its Run
}

func testLogger(name string) *slog.Logger {
	if os.Getenv("MUSTER_TEST_LOG") == "" {
		return logx.Discard()
	}
	return logx.New(os.Stderr, slog.LevelDebug, false).With("server", name)
}

func startServer(t *testing.T, o testOptions) *testServer {
	t.Helper()
	if o.addr == "" {
		o.addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	log := testLogger(o.name)
	identity, err := mux.LoadIdentity(mux.Files{}, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	dialer := mux.NewDialer(identity, 5*time.Second)
	port := mux.New(mux.Config{Listener: ln, Identity: identity, HandshakeTimeout: 5 * time.Second, MaxHandshakes: 64, MaxConns: 1024, Logger: log})
	id := fmt.Sprintf("00000000-0000-0000-0000-%012x", []byte(o.name))
	ts := &testServer{t: t, name: o.name, dir: o.dir, ln: ln, line: &line{dial: dialer.DialRaft}}
	who, err := clusterid.Open(o.dir, id)
	if err != nil {
		t.Fatal(err)
	}
	ts.pool = gossip.New(gossip.Config{
		Cluster: who.Confirmed(), Run: RunTag(who.Hello("")),
		NodeName: o.name, NodeID: id, Datacenter: "dc1", Server: true, ServerPort: ln.Addr().(*net.TCPAddr).Port,
		Level: state.Level, Build: "1.2.3:abcdef01", Expect: o.expect, BindAddr: "127.0.0.1", DataDir: o.dir, Logger: log,
		ReconnectTimeout: time.Hour, MaxMembers: gossip.MaxMembers, Timing: testTiming, OnChange: func() { ts.MembersChanged() },
	})
	transport := dialer.Transport()
	cfg := Config{
		NodeName: o.name, NodeID: id, Datacenter: "dc1", Address: ln.Addr().String(), Expect: o.expect,
		HoldTimeout: 7 * time.Second, ReconcileInterval: time.Minute, SessionTTLMultiplier: 1,
		Raft: raftnode.Config{
			DataDir: o.dir, Listener: port.Raft(), Dial: ts.line.dialRaft,
			Multiplier: 1, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 10240,
		},
		Pool: ts.pool, Transport: clusterid.Transport{Inner: transport, Own: ts.pool.Cluster}, Logger: log, Identity: who,
		Autopilot: Autopilot{
			ServerStabilizationTime: time.Second, LastContactThreshold: 5 * time.Second, MaxTrailingLogs: 250,
			UpdateInterval: 200 * time.Millisecond, ReconcileInterval: 300 * time.Millisecond,
		},
	}
	if o.edit != nil {
		o.edit(&cfg)
	}
	ts.Server = New(cfg)
	ts.closeIdle = transport.CloseIdleConnections
	ts.run(port.Run)
	ts.run(ts.pool.Run)
	if o.run == nil {
		o.run = func(s *Server) func(context.Context) error { return s.Run }
	}
	ts.run(o.run(ts.Server))
	ts.run(func(ctx context.Context) error {
		return mux.ServeHTTP(ctx, port.HTTP(), ts.Handler(httpapi.New(httpapi.Config{Datacenter: "dc1", NodeName: o.name, Cluster: asked{ts.Server}, HoldTimeout: cfg.HoldTimeout, Logger: log}).Internal()), log)
	})
	if err := ts.pool.AwaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ts.stop)
	return ts
}

// asked is a server as the API sees it.
type asked struct{ *Server }

func (a asked) AwaitLeader(ctx context.Context) (self bool, addr string, err error) {
	l, err := a.Server.AwaitLeader(ctx)
	return l.Self, l.Addr, err
}

func (ts *testServer) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := part{cancel, make(chan error, 1)}
	ts.parts = append(ts.parts, p)
	go func() { p.done <- run(ctx) }()
}

// stop ends the server in order; a second call does nothing.
func (ts *testServer) stop() {
	for i := len(ts.parts) - 1; i >= 0; i-- {
		if err := ts.parts[i].end(); err != nil {
			ts.t.Errorf("%s: %v", ts.name, err)
		}
	}
	ts.parts = nil
	ts.closeIdle() // last: until then the server sends requests
}

// kill cuts the server off from everybody first, so that it can neither hand
// over its leadership nor say good-bye. What its parts say of that is ignored.
func (ts *testServer) kill() {
	ts.line.close()
	for _, p := range ts.parts {
		_ = p.end()
	}
	ts.parts = nil
	ts.closeIdle() // last: until then the server sends requests
}

func (p part) end() error {
	p.cancel()
	return <-p.done
}

// checkLeaks fails a test after whose end goroutines remain. Memberlist's last
// probe may take a few seconds to notice.
func checkLeaks(t *testing.T) {
	t.Cleanup(func() {
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			err := goleak.Find()
			if err == nil {
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Error(err)
				return
			}
		}
	})
}

func (ts *testServer) gossipAddr() string {
	m := ts.pool.Local()
	return net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))
}

func (ts *testServer) join(other *testServer) {
	ts.t.Helper()
	if _, err := ts.pool.Join([]string{other.gossipAddr()}); err != nil {
		ts.t.Fatal(err)
	}
}

// startCluster starts servers s1 ... sN on disk that begin a cluster together.
func startCluster(t *testing.T, count int) []*testServer {
	t.Helper()
	var all []*testServer
	for i := 1; i <= count; i++ {
		ts := startServer(t, testOptions{name: fmt.Sprint("s", i), dir: t.TempDir(), expect: count})
		if i > 1 {
			ts.join(all[0])
		}
		all = append(all, ts)
	}
	return all
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > deadline {
			t.Fatalf("after %v still not: %s", deadline, what)
		}
	}
}

// leaderOf waits until one of them leads and is ready.
func leaderOf(t *testing.T, all []*testServer) *testServer {
	t.Helper()
	var found *testServer
	until(t, "one server leads and is ready", func() bool {
		for _, ts := range all {
			if ts.leader().Self && ts.isReady() {
				found = ts
				return true
			}
		}
		return false
	})
	return found
}

func others(all []*testServer, without ...*testServer) []*testServer {
	var rest []*testServer
next:
	for _, ts := range all {
		for _, w := range without {
			if ts == w {
				continue next
			}
		}
		rest = append(rest, ts)
	}
	return rest
}

func put(t *testing.T, leader *testServer, key, value string) {
	t.Helper()
	cmd := &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: key, Value: []byte(value)}}
	result, err := leader.Propose(t.Context(), cmd)
	if err != nil || result != true {
		t.Fatalf("put %s: %v, %v", key, result, err)
	}
}

func (ts *testServer) get(key string) string {
	pair, _ := ts.Views().Snapshot().KVGet(key)
	if pair == nil {
		return ""
	}
	return string(pair.Value)
}

// health is the status of a node's serfHealth, "" if there is none.
func (ts *testServer) health(name string) string {
	r := lookUp(ts.Views().Snapshot(), name)
	if r.health == nil {
		return ""
	}
	return r.health.Status
}

// inParallel stops servers at the same time.
func inParallel(all []*testServer, f func(*testServer)) {
	var wg sync.WaitGroup
	for _, ts := range all {
		wg.Go(func() { f(ts) })
	}
	wg.Wait()
}
