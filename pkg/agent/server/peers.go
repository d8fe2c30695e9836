package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
)

const maxAnswer = 4096

// peerStats is a server's place in the log. LastContact is negative if it never
// heard from a leader.
type peerStats struct {
	LastContact time.Duration // nanoseconds
	LastTerm    uint64
	LastIndex   uint64
	Applied     uint64 // the newest entry that its state holds
}

// Handler is next for the agents and servers of this cluster: the requests of others
// are refused.
func (s *Server) Handler(next http.Handler) http.Handler {
	return clusterid.RefuseForeign(next, s.cfg.Identity.Cluster, func(r *http.Request, err error) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if s.logged.First("refused agent " + host) {
			s.cfg.Logger.Error("refused the requests of an agent", "address", host, "error", err)
		}
	})
}

// RaftRunning says whether raft has started.
func (s *Server) RaftRunning() bool { return s.started.Load() }

// RaftStats is this server's place in the log.
func (s *Server) RaftStats(context.Context, url.Values) (any, error) { return s.ownStats(), nil }

// LeaderProbe answers whether this server's connections to a leader are refused.
func (s *Server) LeaderProbe(ctx context.Context, params url.Values) (any, error) {
	term, err := strconv.ParseUint(params.Get("term"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("which term: %w", err)
	}
	return s.node.ProbeLeader(ctx, params.Get("leader"), term)
}

// askProbe asks a voter whether a leader refuses its connections.
func (s *Server) askProbe(ctx context.Context, voter raft.Server, leader string, term uint64) (raftnode.ProbeReport, error) {
	var report raftnode.ProbeReport
	query := url.Values{"leader": {leader}, "term": {strconv.FormatUint(term, 10)}}
	err := s.askServer(ctx, s.addressIn(voter), httpapi.LeaderProbePath+"?"+query.Encode(), &report)
	return report, err
}

// statsOf asks the server at addr.
func (s *Server) statsOf(ctx context.Context, id, addr string) (peerStats, error) {
	if id == s.cfg.NodeID {
		return s.ownStats(), nil
	}
	var stats peerStats
	err := s.askServer(ctx, addr, httpapi.RaftStatsPath, &stats)
	return stats, err
}

// askServer sends an internal request to the server at addr and decodes its answer.
func (s *Server) askServer(ctx context.Context, addr, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := s.cfg.Transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusMisdirectedRequest:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return fmt.Errorf("ask %s: %w: %s", addr, clusterid.ErrForeign, text)
	default:
		return fmt.Errorf("ask %s: it answered %s", addr, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	return nil
}
