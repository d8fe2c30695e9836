package httpapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/muster-dev/muster/pkg/api"
)

// What servers ask each other, on the server port.
const (
	RaftStatsPath   = "/v1/internal/raft-stats"   // a server's place in the log
	LeaderProbePath = "/v1/internal/raft-witness" // whether ?leader refuses its connections in ?term
	VoterPath       = "/v1/internal/raft-voter"   // whether ?id has a vote
	ReadIndexPath   = "/v1/internal/read-index"   // how far a follower has to catch up; ?consistent with a proof of leadership
	DigestPath      = "/v1/internal/state-digest" // of the state, to compare replicas
	HelloPath       = "/v1/internal/hello"        // the cluster and start that a server is of
)

// Peer answers these questions. An error is a 503: the asking server tries another one,
// or tries again.
type Peer interface {
	// RaftRunning says whether raft has started. Before, there is an answer to Hello only.
	RaftRunning() bool
	RaftStats(context.Context, url.Values) (any, error)
	LeaderProbe(context.Context, url.Values) (any, error)
	Voter(context.Context, url.Values) (any, error)
	ReadIndex(context.Context, url.Values) (any, error)
	Digest(context.Context, url.Values) (any, error)
	Hello() any
}

// peer is the handler of such a question.
func peer(ask func(Peer, context.Context, url.Values) (any, error)) handler {
	return func(a *API, rq *request) (any, error) {
		if !a.cfg.Cluster.RaftRunning() {
			return nil, api.Errorf(http.StatusServiceUnavailable, "raft is not running")
		}
		v, err := ask(a.cfg.Cluster, rq.ctx, rq.values)
		if err != nil {
			return nil, api.Errorf(http.StatusServiceUnavailable, "%v", err)
		}
		return v, nil
	}
}

func (a *API) hello(*request) (any, error) { return a.cfg.Cluster.Hello(), nil }
