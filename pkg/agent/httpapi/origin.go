package httpapi

import (
	"net/http"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
)

// origin says where a request came from and how it may be forwarded.
type origin struct {
	public    bool // from a client, at a client address
	forwarded bool // from another agent, over the server port
	toLeader  bool // addressed to this server as the leader
	forwards  int  // how many more times it may be forwarded
}

// Public is the handler of the client addresses. The headers about forwarding are
// ignored. The restrictions of http_config apply here only.
func (a *API) Public() http.Handler { return a.from(origin{public: true, forwards: api.MaxForwards}) }

// Own is the handler of this agent's own requests. It serves internal routes too.
func (a *API) Own() http.Handler { return a.from(origin{forwards: api.MaxForwards}) }

// Internal is the handler of the server port, for requests that other agents forward.
// It serves the cluster's data, but not this agent's own endpoints.
func (a *API) Internal() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.serve(w, r, forwardedOrigin(r.Header))
	})
}

func (a *API) from(o origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, o) })
}

// forwardedOrigin reads the headers about forwarding.
func forwardedOrigin(h http.Header) origin {
	o := origin{forwarded: true, toLeader: h.Get(api.HeaderTarget) == api.TargetLeader, forwards: api.MaxForwards - 1}
	if n, err := strconv.Atoi(h.Get(api.HeaderForwards)); err == nil {
		o.forwards = min(max(n, 0), o.forwards)
	}
	// A server of a version without these two headers forwards them unchanged. Its own
	// header says that it addresses the leader.
	if hops, err := strconv.Atoi(h.Get(api.HeaderHops)); err == nil && hops > 1 {
		o.toLeader = true
	}
	if o.toLeader {
		o.forwards = 0
	}
	return o
}
