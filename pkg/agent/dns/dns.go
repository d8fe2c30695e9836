// Package dns answers DNS questions about the catalog: the addresses, ports and
// metadata of nodes and services.
//
// It promises:
//   - If an instance of a service is healthy, the answer has at least one.
//   - TC is set whenever records were left out because they did not fit.
//   - A name that does not exist is NXDOMAIN, a name without a record of the type that
//     was asked for is NOERROR without an answer (RFC 2308).
//   - A failed lookup is SERVFAIL, never an empty answer.
//   - No packet makes it panic.
//
// [Server.Handle] is a function from a question to an answer: tests need no socket.
// [Server.Run] serves it over UDP and TCP. name.go parses a name; service.go, node.go
// and zone.go answer the question, tagged.go chooses addresses, trim.go makes the answer
// fit, recurse.go asks recursors.
package dns

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// ErrUnknownDatacenter is returned by a Lookup, wrapped or not, for an unknown
// datacenter. The answer is NXDOMAIN.
var ErrUnknownDatacenter = errors.New("unknown datacenter")

// Lookup reads the catalog. Names are compared without regard to case. The results are
// read only. It is called from many goroutines, with a context that has a deadline.
type Lookup interface {
	// ServiceInstances returns every instance of a service that has all the tags,
	// whatever its health; none if there is no such service. Tags are compared without
	// regard to case.
	ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error)
	// Node returns nil and no error for a node that does not exist.
	Node(ctx context.Context, dc, name string) (*api.Node, error)
	// NodeByAddress and ServiceByAddress return nil and no error if none has the address.
	NodeByAddress(ctx context.Context, dc, ip string) (*api.Node, error)
	ServiceByAddress(ctx context.Context, dc, ip string) (*api.ServiceNode, error)
	// Elected returns the node that has won the election of this name, nil and no error if
	// none has.
	Elected(ctx context.Context, dc, name string) (*api.Node, error)
}

// Config configures a Server. The agent's configuration has the defaults of keys; a
// comment says what zero means here.
type Config struct {
	Addrs      []string // "ip:port", each for UDP and TCP; not changed by Reload
	Domain     string   // "" is "consul."
	AltDomain  string   // "" is none
	Datacenter string
	Lookup     Lookup
	Logger     *slog.Logger // not changed by Reload

	NodeTTL            time.Duration
	ServiceTTL         map[string]time.Duration // by service name or "prefix*"
	SOA                SOA
	EnableTruncate     bool // set TC
	OnlyPassing        bool // leave out instances in state warning too
	UDPAnswerLimit     int  // records over UDP without EDNS; 0 is 8
	ARecordLimit       int  // addresses in an answer; 0 is no limit
	DisableCompression bool
	NodeMetaTXT        bool // node metadata in the additional section
	TranslateWAN       bool // "wan" addresses of other datacenters

	Recursors       []string      // "ip:port"
	RecursorTimeout time.Duration // for each
	RandomRecursor  bool          // in random order, not in the given one
}

// SOA is the timing in the start-of-authority record, in seconds.
type SOA struct {
	Refresh, Retry, Expire, MinTTL uint32
}

// Limits of a Server.
const (
	MaxQuestions   = 4096            // at a time; more are dropped (UDP) or SERVFAIL (TCP)
	MaxUpstream    = 256             // of them, waiting for a recursor
	MaxConnections = 1024            // TCP connections of each address; more are closed
	MaxPerClient   = 64              // of them, from one client
	lookupTimeout  = 5 * time.Second // the usual timeout of resolvers
	readTimeout    = 2 * time.Second // for a question over TCP, from its first byte
	writeTimeout   = 2 * time.Second
	idleTimeout    = 8 * time.Second // of a TCP connection
	acceptBackoff  = 50 * time.Millisecond
	stopTimeout    = 2 * time.Second // for the answers in progress when Run ends
)

// Server answers questions.
type Server struct {
	log   *slog.Logger
	zone  atomic.Pointer[zone]
	addrs []string
	bound bound

	questions chan struct{} // one token for each question in progress
	upstream  chan struct{} // one token for each question that waits for a recursor
}

// New makes a server; Run starts it. Handle works without Run.
func New(cfg Config) *Server {
	s := &Server{
		log:       cfg.Logger,
		addrs:     cfg.Addrs,
		bound:     bound{ready: make(chan struct{})},
		questions: make(chan struct{}, MaxQuestions),
		upstream:  make(chan struct{}, MaxUpstream),
	}
	s.Reload(cfg)
	return s
}

// Reload changes everything but the addresses and the logger. Questions in progress
// keep the old configuration.
func (s *Server) Reload(cfg Config) { s.zone.Store(newZone(cfg)) }
