package httpapi

import (
	"net/http"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
)

// origin is where a request came in, and what may become of it from there.
type origin struct {
	public    bool // at a client address
	forwarded bool // over the server port, from another agent
	toLeader  bool // to this server as the leader
	forwards  int  // how many more times it may be forwarded
}

// Public is the handler of the client addresses. A client's own words about
// forwarding are not believed; what http_config says of who may do what holds here,
// and here only.
func (a *API) Public() http.Handler { return a.from(origin{public: true, forwards: api.MaxForwards}) }

// Own is the handler of what this agent asks itself.
func (a *API) Own() http.Handler { return a.from(origin{forwards: api.MaxForwards}) }

// Internal is the handler of the server port, where other agents forward to. It
// offers the cluster's data but not this agent's own endpoints.
func (a *API) Internal() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.serve(w, r, forwardedOrigin(r.Header))
	})
}

func (a *API) from(o origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, o) })
}

// forwardedOrigin reads what the agent that forwarded a request says of it.
func forwardedOrigin(h http.Header) origin {
	o := origin{forwarded: true, toLeader: h.Get(api.HeaderTarget) == api.TargetLeader, forwards: api.MaxForwards - 1}
	if n, err := strconv.Atoi(h.Get(api.HeaderForwards)); err == nil {
		o.forwards = min(max(n, 0), o.forwards)
	}
	// A server of a version without these two headers forwards them as it got them, and
	// says with its own that it takes this server for the leader.
	if hops, err := strconv.Atoi(h.Get(api.HeaderHops)); err == nil && hops > 1 {
		o.toLeader = true
	}
	if o.toLeader {
		o.forwards = 0
	}
	return o
}
