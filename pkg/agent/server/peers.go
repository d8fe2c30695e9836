package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// statsPath is where servers ask each other for their place in the log.
const statsPath = "/v1/internal/raft-stats"

const maxStatsSize = 4096

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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != statsPath || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		if !s.started.Load() {
			http.Error(w, "raft is not running", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.ownStats()) // the caller has gone: nothing to do
	})
}

// statsOf asks the server at addr.
func (s *Server) statsOf(ctx context.Context, id, addr string) (peerStats, error) {
	if id == s.cfg.NodeID {
		return s.ownStats(), nil
	}
	var stats peerStats
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+statsPath, nil)
	if err != nil {
		return stats, fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := s.cfg.Transport.RoundTrip(req)
	if err != nil {
		return stats, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return stats, fmt.Errorf("ask %s: it answered %s", addr, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatsSize)).Decode(&stats); err != nil {
		return stats, fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	return stats, nil
}
