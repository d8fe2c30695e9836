package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/event"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster is a raft group of one: it applies what is proposed at once. Its
// fields may be set while it is in use, by set.
type fakeCluster struct {
	Peer // which a test sets that asks it

	mu    sync.Mutex
	store *state.Store
	views *view.Views
	index uint64

	follower   string // the leader's address; "" while this server leads
	electing   bool   // no leader is known until the caller gives up
	awaitErr   error
	staleErr   error
	verifyErr  error
	proposeErr []error         // one for each of the next proposals
	proposing  func()          // ends the leadership while a proposal is under way
	afterwards []state.Command // applied before the next proposal is answered
	verified   int
	settled    int
	contact    time.Duration
	known      bool
	caughtUp   bool          // with the leader
	asked      []bool        // whether it was; with proof?
	deposed    chan struct{} // closed when the leadership ends
}

func newFakeCluster() *fakeCluster {
	store := state.New()
	return &fakeCluster{store: store, views: view.New(store.Snapshot()), known: true}
}

func (c *fakeCluster) set(change func(*fakeCluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *fakeCluster) Leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.follower == "" && !c.electing && c.awaitErr == nil
}

func (c *fakeCluster) AwaitLeader(ctx context.Context) (bool, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.electing {
		<-ctx.Done()
		return false, "", ctx.Err()
	}
	return c.awaitErr == nil && c.follower == "", c.follower, c.awaitErr
}

func (c *fakeCluster) AwaitStale(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.staleErr
}

func (c *fakeCluster) CatchUp(_ context.Context, proof bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caughtUp {
		c.asked = append(c.asked, proof)
	}
	return c.caughtUp
}

func (c *fakeCluster) AwaitCommitted(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled++
	return nil
}

func (c *fakeCluster) VerifyLeader(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified++
	return c.verifyErr
}

func (c *fakeCluster) RenewSession(ctx context.Context, id string) (*api.Session, error) {
	if err := c.VerifyLeader(ctx); err != nil {
		return nil, err
	}
	s, _ := c.views.Snapshot().Session(id)
	return s, nil
}

func (c *fakeCluster) WhileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	if c.deposed == nil {
		c.deposed = make(chan struct{})
	}
	deposed := c.deposed
	go func() {
		select {
		case <-deposed:
			cancel(api.ErrNoLeader)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// depose ends the leadership in favour of the server at addr.
func (c *fakeCluster) depose(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follower = addr
	if c.deposed != nil {
		close(c.deposed)
		c.deposed = nil
	}
}

func (c *fakeCluster) Propose(ctx context.Context, cmd state.Command) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proposing != nil {
		// As raft does where the leadership ends after the entry was proposed: it says
		// so, unless whoever proposes has gone away before.
		c.mu.Unlock()
		c.proposing()
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // nothing ends with the leadership
		}
		c.mu.Lock()
		return nil, fmt.Errorf("%w: leadership lost", api.ErrUnknownWrite)
	}
	if len(c.proposeErr) > 0 {
		err := c.proposeErr[0]
		c.proposeErr = c.proposeErr[1:]
		if err != nil {
			return nil, err
		}
	}
	result, err := c.apply(cmd)
	for _, later := range c.afterwards {
		if _, err := c.apply(later); err != nil {
			return nil, err
		}
	}
	c.afterwards = nil
	return result, err
}

func (c *fakeCluster) apply(cmd state.Command) (any, error) {
	data, err := state.Encode(cmd, time.Now(), state.Level)
	if err != nil {
		return nil, err
	}
	c.index++
	results, touched := c.store.ApplyBatch([]state.Entry{{Index: c.index, Data: data}})
	c.views.Publish(c.store.Snapshot(), touched)
	return results[0], nil
}

func (c *fakeCluster) Views() *view.Views   { return c.views }
func (c *fakeCluster) StatusLeader() string { return "10.0.0.1:8300" }
func (c *fakeCluster) Peers() []string      { return []string{"10.0.0.1:8300"} }

func (c *fakeCluster) LastContact() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contact
}

func (c *fakeCluster) KnownLeader() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

func (c *fakeCluster) RaftConfiguration() api.RaftConfiguration {
	return api.RaftConfiguration{Index: 7, Servers: []*api.RaftServer{{
		ID: "id-1", Node: "n1", Address: "10.0.0.1:8300", Leader: true, ProtocolVersion: "3", Voter: true,
	}}}
}

type fakeMembers struct {
	joined, left []string
	joinErr      error
}

func (m *fakeMembers) Members() []api.Member {
	return []api.Member{
		{Name: "n1", Addr: "10.0.0.1", Port: 8301, Tags: map[string]string{"role": "consul"}, Status: api.MemberAlive},
		{Name: "n2", Addr: "10.0.0.2", Port: 8301, Tags: map[string]string{"role": "node"}, Status: api.MemberFailed},
	}
}

func (m *fakeMembers) Join(addrs []string) (int, error) {
	m.joined = append(m.joined, addrs...)
	return 1, m.joinErr
}

func (m *fakeMembers) ForceLeave(name string, prune bool) error {
	if prune {
		name += " pruned"
	}
	m.left = append(m.left, name)
	return nil
}

type fakeAgent struct{ reloadErr error }

func (*fakeAgent) Self() Self {
	return Self{Config: SelfConfig{NodeName: "n1", Datacenter: "dc1"}, Member: api.Member{Name: "n1"}}
}

func (*fakeAgent) Metrics() (any, error) {
	return map[string]any{"Gauges": []string{}}, nil
}

func (*fakeAgent) Leave(context.Context) error { return nil }
func (f *fakeAgent) Reload() error             { return f.reloadErr }

type fakeCatalog struct{}

func (fakeCatalog) CatalogRegister(context.Context, *api.CatalogRegistration) error     { return nil }
func (fakeCatalog) CatalogDeregister(context.Context, *api.CatalogDeregistration) error { return nil }
func (fakeCatalog) NodeServices(context.Context, string, *client.Options) (*api.NodeServices, client.Meta, error) {
	return nil, client.Meta{}, nil
}
func (fakeCatalog) HealthNode(context.Context, string, *client.Options) ([]*api.HealthCheck, client.Meta, error) {
	return nil, client.Meta{}, nil
}

// fakeForward records what is forwarded, and gives the answer that it is configured with.
type fakeForward struct {
	mu    sync.Mutex
	calls []string
	safe  []bool
	errs  []error // one for each of the next calls
}

func (f *fakeForward) record(w http.ResponseWriter, r *http.Request, safe bool, forwards int, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	f.safe = append(f.safe, safe)
	to += " forwards " + strconv.Itoa(forwards)
	f.calls = append(f.calls, strings.TrimSpace(to+" "+r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		if err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "from "+to)
	return err
}

func (f *fakeForward) ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error {
	return f.record(w, r, safe, forwards, "server")
}

func (f *fakeForward) ToLeader(w http.ResponseWriter, r *http.Request, safe bool, addr string) error {
	return f.record(w, r, safe, 0, "leader "+addr)
}

// rig is an API with everything around it faked but the state.
type rig struct {
	t       testing.TB
	cluster *fakeCluster
	members *fakeMembers
	agent   *fakeAgent
	forward *fakeForward
	local   *local.State
	bus     *bus.Bus
	events  *event.Ring
	api     *API
}

// UserEvent is a gossip pool of one, with the reference's limit.
func (r *rig) UserEvent(name string, payload []byte) error {
	if len(name)+len(payload) > 512 {
		return errors.New("user event exceeds configured limit of 512 bytes before encoding")
	}
	r.bus.Heard(bus.Message{Name: name, Payload: payload, LTime: 3}, false)
	return nil
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	r := &rig{
		t: t, cluster: newFakeCluster(), members: &fakeMembers{}, agent: &fakeAgent{}, forward: &fakeForward{},
		local: local.New(local.Config{
			Node: api.Node{Node: "n1", Datacenter: "dc1", Address: "10.0.0.1"}, Catalog: fakeCatalog{}, Logger: logx.Discard(),
			CheckOutputMaxSize: api.MaxCheckOutput,
		}),
	}
	r.bus = bus.New(bus.Config{Server: true, Gossip: r, Logger: logx.Discard(), Receivers: []bus.Receiver{
		{Prefix: event.Prefix, Receive: func(m bus.Message) { r.events.Receive(m) }},
	}})
	r.events = event.New(event.Config{NodeName: "n1", Services: r.local.Services, Publish: r.bus.Publish, Logger: logx.Discard()})
	cfg := Config{
		Datacenter: "dc1", NodeName: "n1", Version: api.AgentVersion{HumanVersion: "1.2.3"},
		Cluster: r.cluster, Members: r.members, Agent: r.agent, Local: r.local, Forward: r.forward,
		Events: r.events, Bus: r.bus,
		HoldTimeout: 200 * time.Millisecond, DefaultQueryTime: 5 * time.Minute, MaxQueryTime: 10 * time.Minute,
		SessionTTLMin: api.MinSessionTTL, MaxKVValueSize: api.MaxKVValueSize, MaxTxnBodySize: api.MaxTxnBodySize, Logger: logx.Discard(),
	}
	for _, f := range change {
		f(&cfg)
	}
	r.api = New(cfg)
	return r
}

// do sends a request whose target starts with its method: "GET /v1/...".
func (r *rig) do(target, body string, header ...string) *httptest.ResponseRecorder {
	return r.send(context.Background(), r.api.Public(), target, body, header...)
}

func (r *rig) send(ctx context.Context, h http.Handler, target, body string, header ...string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(target, " ")
	req := httptest.NewRequest(method, "http://h", strings.NewReader(body)).WithContext(ctx)
	if body == "" {
		req = httptest.NewRequest(method, "http://h", nil).WithContext(ctx)
	}
	before, query, _ := strings.Cut(path, "?")
	req.URL.Path, req.URL.RawQuery = before, query
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// must sends a request that has to succeed, and gives its body.
func (r *rig) must(target, body string) string {
	r.t.Helper()
	w := r.do(target, body)
	if w.Code != http.StatusOK {
		r.t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return w.Body.String()
}

// want is an expected answer.
type want struct {
	target string
	body   string
	code   int
	answer string // whole, or with a leading ~ a part
}

func (r *rig) check(t *testing.T, rows []want) {
	t.Helper()
	for _, row := range rows {
		w := r.do(row.target, row.body)
		got := w.Body.String()
		part, isPart := strings.CutPrefix(row.answer, "~")
		if w.Code != row.code || isPart && !strings.Contains(got, part) || !isPart && got != row.answer {
			t.Errorf("%s %s\n got %d %q\nwant %d %q", row.target, row.body, w.Code, got, row.code, row.answer)
		}
	}
}

// seed registers two nodes and three instances of web, and a db.
func (r *rig) seed() {
	r.t.Helper()
	for _, body := range []string{
		`{"Node":"a","Address":"10.0.0.1","NodeMeta":{"rack":"1"},"Service":{"ID":"web1","Service":"web","Tags":["v1","blue"],"Port":80,"Meta":{"k":"x"}},
		  "Checks":[{"Name":"alive","Status":"passing"},{"CheckID":"web1-check","Name":"w","ServiceID":"web1","Status":"passing"}]}`,
		`{"Node":"b","Address":"10.0.0.2","NodeMeta":{"rack":"2"},"Service":{"ID":"web2","Service":"web","Tags":["v2"],"Port":81},
		  "Check":{"CheckID":"web2-check","Name":"w","ServiceID":"web2","Status":"warning"}}`,
		`{"Node":"b","Address":"10.0.0.2","NodeMeta":{"rack":"2"},"Service":{"ID":"web3","Service":"web","Tags":[],"Port":82},
		  "Check":{"CheckID":"web3-check","Name":"w","ServiceID":"web3"}}`,
		`{"Node":"b","SkipNodeUpdate":true,"Service":{"Service":"db","Port":5432}}`,
	} {
		if got := r.must("PUT /v1/catalog/register", body); got != "true" {
			r.t.Fatalf("register answered %q", got)
		}
	}
}

var errGone = errors.New("gone")
