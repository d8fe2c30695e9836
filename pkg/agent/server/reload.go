package server

import (
	"time"

	"github.com/muster-dev/muster/pkg/agent/raftnode"
)

// SetSnapshots changes when raft takes snapshots, and how many entries of its log
// stay behind one (raft_snapshot_threshold, raft_snapshot_interval,
// raft_trailing_logs).
func (s *Server) SetSnapshots(threshold uint64, interval time.Duration, trailing uint64) error {
	return s.node.SetSnapshotRules(raftnode.SnapshotRules{Threshold: threshold, Interval: interval, TrailingLogs: trailing})
}

// Snapshots says which of these are in use.
func (s *Server) Snapshots() raftnode.SnapshotRules { return s.node.SnapshotRules() }
