// Package httpapi answers muster's HTTP API: one literal table of routes
// (routes.go), one dispatcher that decides where a request runs (serve.go), and
// one file of handlers per noun.
//
// What it promises:
//   - Agents talk to servers in this same API. A request that this agent cannot
//     answer is forwarded, unchanged, to one that can; it travels agent ->
//     server -> leader at most, and a server that is addressed as the leader and
//     is not answers "No cluster leader".
//   - A read is a pure function of one snapshot. A blocking read returns when
//     what it would show has changed, filters included.
//   - No answer is empty because this agent does not know yet: such a request
//     waits for the hold timeout and then fails.
//   - Bodies, filters and waiting times are bounded; no input makes it panic,
//     and a panic in a handler costs that one request only.
//
// The package holds no listener, and starts no goroutine but one for a blocking
// read that several clients of a client agent share (coalesce.go). It reaches the raft
// group, the gossip pool and the agent through the interfaces declared here.
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/event"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// ErrStopping is the cause with which whoever owns the HTTP server cancels its
// base context at shutdown: blocked reads are then answered with what they see
// at that moment, like ones whose wait is over.
var ErrStopping = errors.New("agent is stopping")

// Cluster is the raft group and its state, as a server has it.
type Cluster interface {
	Leadership
	Standing
	Peer
	// Views is where the replicated state is read.
	Views() *view.Views
}

// Leadership is about doing things as, or through, the leader. The error
// api.ErrNoLeader proves that nothing was done.
type Leadership interface {
	// Leads says that AwaitLeader would answer at once that this server leads.
	Leads() bool
	// AwaitLeader waits, for the hold timeout at most, for a leader that is
	// known and, if it is this server, ready. addr is its server port.
	AwaitLeader(ctx context.Context) (self bool, addr string, err error)
	// AwaitStale waits until this server may answer stale reads.
	AwaitStale(ctx context.Context) error
	// CatchUp says whether this follower may answer for the leader: it holds all
	// that the leader held at a moment after the call, with proof one at which a
	// majority still took it for the leader.
	CatchUp(ctx context.Context, proof bool) bool
	// AwaitCommitted waits until the state here holds all that is committed; leader only.
	AwaitCommitted(ctx context.Context) error
	// VerifyLeader confirms with a majority that this server leads.
	VerifyLeader(ctx context.Context) error
	// RenewSession makes the TTL of a session begin anew, after it has confirmed
	// the leadership; nil if the session has ended.
	RenewSession(ctx context.Context, id string) (*api.Session, error)
	// WhileLeading gives a context that ends with ctx, or with this server's
	// leadership: then its cause is api.ErrNoLeader.
	WhileLeading(ctx context.Context) (context.Context, context.CancelFunc)
	// Propose applies a command; leader only. What the command itself answers,
	// be it an error, may be either result. An error that wraps
	// api.ErrUnknownWrite says that the command may have been applied.
	Propose(ctx context.Context, cmd state.Command) (any, error)
}

// Standing is what this server knows of the group without asking anybody.
type Standing interface {
	StatusLeader() string
	Peers() []string
	LastContact() time.Duration // zero on the leader
	KnownLeader() bool
	RaftConfiguration() api.RaftConfiguration
}

// Members is the gossip pool.
type Members interface {
	Members() []api.Member
	Join(addrs []string) (int, error)
	ForceLeave(name string, prune bool) error
}

// Agent is the process around this API.
type Agent interface {
	Self() Self
	// Metrics is the answer of agent/metrics in its JSON form.
	Metrics() (any, error)
	// Leave returns when the agent has left the pool and is about to stop.
	Leave(ctx context.Context) error
	Reload() error
}

// Forwarder sends a request to another agent; see package forward.
type Forwarder interface {
	ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error
	ToLeader(w http.ResponseWriter, r *http.Request, safe bool, addr string) error
}

// Config is what an API needs. Every limit and time must be set.
type Config struct {
	Datacenter string
	NodeName   string // of this agent
	Version    api.AgentVersion

	Cluster    Cluster // nil on a client agent
	Members    Members
	Agent      Agent
	Local      *local.State
	Events     *event.Ring
	Bus        *bus.Bus
	Relay      *exec.Relay                      // output of jobs; servers only
	Call       func(job string, nodes []string) // tells nodes that there is a job for them; may be nil
	Forward    Forwarder
	Prometheus http.Handler // nil: metrics in JSON only

	AlwaysPretty      bool          // -dev: indented JSON
	HoldTimeout       time.Duration // performance.rpc_hold_timeout
	DefaultQueryTime  time.Duration // default_query_time
	MaxQueryTime      time.Duration // max_query_time
	DiscoveryMaxStale time.Duration // discovery_max_stale
	SessionTTLMin     time.Duration // session_ttl_min
	MaxKVValueSize    int64         // limits.kv_max_value_size
	MaxTxnBodySize    int64         // limits.txn_max_req_len

	// Of the client addresses alone.
	ResponseHeaders map[string]string // http_config.response_headers
	BlockEndpoints  []string          // http_config.block_endpoints
	AllowWriteFrom  []netip.Prefix    // http_config.allow_write_http_from

	Logger *slog.Logger
}

// API answers requests. It is safe for concurrent use.
type API struct {
	noLeaderLog noLeaderLog

	cfg         Config
	table       table
	gzips       sync.Pool // of *gzip.Writer, 1.2 MB each: an answer of 10 KB takes 0.2 ms with it and 0.7 with a new one
	sharedReads sharedReads
}

// New makes an API.
func New(cfg Config) *API {
	if cfg.Call == nil {
		cfg.Call = func(string, []string) {}
	}
	return &API{cfg: cfg, table: newTable(routes())}
}
