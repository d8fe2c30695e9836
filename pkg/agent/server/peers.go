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
	"github.com/muster-dev/muster/pkg/agent/raftnode"
)

// Where servers ask each other for their place in the log, and whether a leader
// refuses connections.
const (
	statsPath = "/v1/internal/raft-stats"
	probePath = "/v1/internal/raft-witness"
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

// Handler answers, on the server port, what only servers ask each other, and
// leaves everything else to next.
func (s *Server) Handler(next http.Handler) http.Handler {
	return clusterid.RefuseForeign(s.private(next), s.cfg.Identity.Cluster, func(r *http.Request, err error) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if s.logged.First("refused agent " + host) {
			s.cfg.Logger.Error("refused the requests of an agent", "address", host, "error", err)
		}
	})
}

func (s *Server) private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer func(*http.Request) (any, error)
		switch {
		case r.Method != http.MethodGet:
		case r.URL.Path == statsPath:
			answer = func(*http.Request) (any, error) { return s.ownStats(), nil }
		case r.URL.Path == probePath:
			answer = s.probeReport
		case r.URL.Path == voterPath:
			answer = s.voter
		case r.URL.Path == indexPath:
			answer = s.readIndex
		case r.URL.Path == helloPath:
			answer = s.hello
		case r.URL.Path == digestPath:
			answer = s.digest
		}
		if answer == nil {
			next.ServeHTTP(w, r)
			return
		}
		if !s.started.Load() && r.URL.Path != helloPath {
			http.Error(w, "raft is not running", http.StatusServiceUnavailable)
			return
		}
		body, err := answer(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the caller has gone: nothing to do
	})
}

// probeReport answers whether this server's connections to a leader are refused.
func (s *Server) probeReport(r *http.Request) (any, error) {
	term, err := strconv.ParseUint(r.URL.Query().Get("term"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("which term: %w", err)
	}
	return s.node.ProbeLeader(r.Context(), r.URL.Query().Get("leader"), term)
}

// askProbe asks a voter that.
func (s *Server) askProbe(ctx context.Context, voter raft.Server, leader string, term uint64) (raftnode.ProbeReport, error) {
	var said raftnode.ProbeReport
	query := url.Values{"leader": {leader}, "term": {strconv.FormatUint(term, 10)}}
	err := s.askServer(ctx, s.addressIn(voter), probePath+"?"+query.Encode(), &said)
	return said, err
}

// statsOf asks the server at addr.
func (s *Server) statsOf(ctx context.Context, id, addr string) (peerStats, error) {
	if id == s.cfg.NodeID {
		return s.ownStats(), nil
	}
	var stats peerStats
	err := s.askServer(ctx, addr, statsPath, &stats)
	return stats, err
}

// askServer asks the server at addr what only servers answer.
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
