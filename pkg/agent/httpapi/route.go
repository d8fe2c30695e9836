package httpapi

import (
	"net/http"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/acl"
)

// where says which agent runs a handler.
type where uint8

const (
	here         where = iota // the agent that was asked
	anyServer                 // the first server reached
	leader                    // the leader; with ?stale a read runs on the first server reached
	inside                    // the first server reached, and only over the server port
	insideLeader              // the leader, and only over the server port
	port                      // this server, over the server port, whatever it knows of the cluster
)

// headers says which headers an answer carries.
type headers uint8

const (
	plain     headers = iota // none
	store                    // the query's index and contact
	discovery                // and its consistency; ?max_stale is kept, failures carry headers too
)

// access lists what a request needs to be allowed.
type access func(*request) []acl.Need

// handler answers a request: with nil for an empty body, a reply, a read, an
// http.Handler that writes itself, or a value for JSON.
type handler func(*API, *request) (any, error)

// route is one row of the API. A path that ends with a slash takes a name; one with
// an asterisk takes it there, before a last segment: "/v1/query/*/execute".
type route struct {
	methods string // comma-joined, as the Allow header shows them
	path    string
	where   where
	headers headers
	access  access
	handle  handler
	traits
}

// traits are the properties that few routes have.
type traits struct {
	namespaced       bool // refuses ?ns; the others ignore it
	literal          bool // its name is never percent-decoded a second way; see findEscaped
	reads            bool // changes nothing, whatever the method
	leaderOnly       bool // ?stale does not make it run elsewhere
	long             bool // may go on for long, and ends with the leadership of its server
	changes          bool // takes ?changes-since
	noFailureHeaders bool // failures have no headers, though it is for discovery
	failureHeaders   bool // failures have headers, though it is not

	readsIf  func(*request) bool                      // changes nothing if so
	unshared func(*request) bool                      // is cheaper to ask than to share
	complete func(*request) error                     // adds what only the first agent knows, or refuses
	limit    func(*Config) (bytes int64, hint string) // of the body; nil: api.MaxBodySize
}

type trait func(*traits)

func row(methods, path string, where where, headers headers, access access, handle handler, with ...trait) route {
	rt := route{methods: methods, path: path, where: where, headers: headers, access: access, handle: handle}
	for _, t := range with {
		t(&rt.traits)
	}
	return rt
}

func ns(t *traits)               { t.namespaced = true }
func literal(t *traits)          { t.literal = true }
func reads(t *traits)            { t.reads = true }
func leaderOnly(t *traits)       { t.leaderOnly = true }
func long(t *traits)             { t.long = true }
func changes(t *traits)          { t.changes = true }
func noFailureHeaders(t *traits) { t.noFailureHeaders = true }
func failureHeaders(t *traits)   { t.failureHeaders = true }

func readsIf(f func(*request) bool) trait    { return func(t *traits) { t.readsIf = f } }
func unshared(f func(*request) bool) trait   { return func(t *traits) { t.unshared = f } }
func completes(f func(*request) error) trait { return func(t *traits) { t.complete = f } }

func body(limit func(*Config) (int64, string)) trait { return func(t *traits) { t.limit = limit } }

func (rt *route) allows(method string) bool {
	for m := range strings.SplitSeq(rt.methods, ",") {
		if m == method {
			return true
		}
	}
	return false
}

func (rt *route) allow() string { return "OPTIONS," + rt.methods }

// served says whether a request of that origin finds this route: the server port does
// not serve an agent's own endpoints, the client addresses do not serve internal routes,
// and this agent itself asks no route that is of the server port alone.
func (rt *route) served(from origin) bool {
	switch rt.where {
	case here:
		return !from.forwarded
	case inside, insideLeader:
		return !from.public
	case port:
		return from.forwarded
	}
	return true
}

// safe tells requests that change nothing, and so may be sent twice.
func (rt *route) safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return rt.reads
}

// followable tells routes whose GET is a read of the replicated state.
func (rt *route) followable() bool {
	return rt.headers != plain && rt.allows(http.MethodGet) && rt.served(origin{public: true})
}

// readOnly tells requests that change nothing, and so may run on a follower.
func (rq *request) readOnly() bool {
	rt := rq.route
	return rt.safe(rq.r.Method) || rt.readsIf != nil && rt.readsIf(rq)
}

// awaitsCommitted tells requests that may show what the state holds.
func (rq *request) awaitsCommitted() bool {
	return rq.route.safe(rq.r.Method) || rq.route.readsIf != nil
}
