package raftnode

import (
	"fmt"
	"time"
)

// SnapshotRules say when raft takes a snapshot, and how much of the log stays
// behind one; see Config.
type SnapshotRules struct {
	Threshold    uint64
	Interval     time.Duration
	TrailingLogs uint64
}

// SetSnapshotRules changes them. A node that does not run yet uses them when it starts.
func (n *Node) SetSnapshotRules(r SnapshotRules) error {
	n.mu.Lock()
	n.cfg.SnapshotThreshold, n.cfg.SnapshotInterval, n.cfg.TrailingLogs = r.Threshold, r.Interval, r.TrailingLogs
	n.mu.Unlock()
	s, done, err := n.enter()
	if err != nil {
		return nil // applySnapshotRules does it
	}
	defer done()
	return s.setSnapshotRules(r)
}

// applySnapshotRules puts into effect what changed while raft started. A node calls it as
// soon as it can be found running.
func (n *Node) applySnapshotRules(s *server) {
	if r := n.SnapshotRules(); r != (SnapshotRules{s.cfg.SnapshotThreshold, s.cfg.SnapshotInterval, s.cfg.TrailingLogs}) {
		if err := s.setSnapshotRules(r); err != nil {
			s.cfg.Logger.Warn("raft keeps the settings that it was started with", "err", err)
		}
	}
}

// SnapshotRules are those that were set last.
func (n *Node) SnapshotRules() SnapshotRules {
	n.mu.Lock()
	defer n.mu.Unlock()
	return SnapshotRules{n.cfg.SnapshotThreshold, n.cfg.SnapshotInterval, n.cfg.TrailingLogs}
}

func (s *server) setSnapshotRules(r SnapshotRules) error {
	rc := s.raft.ReloadableConfig()
	rc.SnapshotThreshold, rc.SnapshotInterval, rc.TrailingLogs = r.Threshold, r.Interval, r.TrailingLogs
	if err := s.raft.ReloadConfig(rc); err != nil {
		return fmt.Errorf("change when raft takes snapshots: %w", err)
	}
	return nil
}
