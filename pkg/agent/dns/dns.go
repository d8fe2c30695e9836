// Package dns answers DNS questions about the catalog: which nodes and services
// there are, and where.
//
// It promises: while one instance of a service is healthy, an answer holds at
// least one; TC is set whenever something was left out that did not fit; a name
// that does not exist is told from one that has no record of the type asked for;
// a failed lookup is SERVFAIL and never an empty answer; and no packet makes it
// panic.
//
// [Server.Handle] is a plain function from a question to an answer, so that a
// test needs no socket. [Server.Run] puts it behind UDP and TCP. Inside, name.go
// understands a question, service.go, node.go and zone.go answer it, trim.go
// makes the answer fit, recurse.go asks others.
package dns

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// ErrUnknownDatacenter is what a Lookup returns, wrapped or not, for a datacenter
// that nobody knows: the name does not exist.
var ErrUnknownDatacenter = errors.New("unknown datacenter")

// Lookup is how questions reach the catalog. Names are compared without regard
// to case. The results are read only. It is called from many goroutines, under
// a context with a deadline.
type Lookup interface {
	// ServiceInstances returns every instance of a service, whatever its health,
	// that has all the tags; none if there is no such service. The tags, too,
	// are compared without regard to case.
	ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error)
	// Node returns nil and no error for a node that does not exist.
	Node(ctx context.Context, dc, name string) (*api.Node, error)
	// NodeByAddress and ServiceByAddress return nil and no error if nobody has
	// the address.
	NodeByAddress(ctx context.Context, dc, ip string) (*api.Node, error)
	ServiceByAddress(ctx context.Context, dc, ip string) (*api.ServiceNode, error)
	// Elected returns the node that holds the election of this name, nil and no
	// error if nobody does.
	Elected(ctx context.Context, dc, name string) (*api.Node, error)
}

// Config is what a Server needs. The zero value of a knob is what its comment
// says; the agent's defaults are made by its configuration.
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
	OnlyPassing        bool // leave out instances with a warning, too
	UDPAnswerLimit     int  // answers over UDP without EDNS; 0 is the built-in 8
	ARecordLimit       int  // addresses in any answer; 0 is no limit
	DisableCompression bool
	NodeMetaTXT        bool // node metadata in the additional section
	TranslateWAN       bool // "wan" addresses for other datacenters

	Recursors       []string      // "ip:port"
	RecursorTimeout time.Duration // for each; 0 is 2 s
	RandomRecursor  bool          // in random order instead of the given one
}

// SOA is the timing in the start-of-authority record, in seconds.
type SOA struct {
	Refresh, Retry, Expire, MinTTL uint32
}

// Limits of a Server.
const (
	MaxQuestions   = 4096            // that are worked on at the same time; more are dropped (UDP) or refused (TCP)
	MaxUpstream    = 256             // of them, waiting for a recursor
	MaxConnections = 1024            // over TCP, for each address; one more is closed at once
	MaxPerClient   = 64              // of them, from one client
	lookupTimeout  = 5 * time.Second // resolvers give up then
	readTimeout    = 2 * time.Second // for a question over TCP that has begun
	writeTimeout   = 2 * time.Second
	idleTimeout    = 8 * time.Second // of a TCP connection
	acceptPause    = 50 * time.Millisecond
	stopTimeout    = 2 * time.Second // for answers under way when Run ends
)

// Server answers questions.
type Server struct {
	log   *slog.Logger
	zone  atomic.Pointer[zone]
	addrs []string
	bound bound

	questions chan struct{} // one token per question that is worked on
	upstream  chan struct{} // one token per question that waits for a recursor
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

// Reload changes everything but the addresses and the logger. Questions that are
// being answered keep what they began with.
func (s *Server) Reload(cfg Config) { s.zone.Store(newZone(cfg)) }
