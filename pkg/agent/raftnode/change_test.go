package raftnode

import (
	"errors"

	"github.com/hashicorp/raft"
)

// What tests need of raft and the program does not.

func change(n *Node, begin func(*raft.Raft) raft.Future) error {
	r, err := n.Raft()
	if err != nil {
		return err
	}
	return begin(r).Error()
}

func addNonvoter(n *Node, id, addr string) error {
	return change(n, func(r *raft.Raft) raft.Future {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueTimeout)
	})
}

func addVoter(n *Node, id, addr string) error {
	return change(n, func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueTimeout)
	})
}

func demoteVoter(n *Node, id string) error {
	return change(n, func(r *raft.Raft) raft.Future { return r.DemoteVoter(raft.ServerID(id), 0, enqueueTimeout) })
}

func removeServer(n *Node, id string) error {
	return change(n, func(r *raft.Raft) raft.Future { return r.RemoveServer(raft.ServerID(id), 0, enqueueTimeout) })
}

// takeSnapshot takes one unless there is nothing new.
func takeSnapshot(n *Node) error {
	err := change(n, func(r *raft.Raft) raft.Future { return r.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// commitIndex is the newest entry that a server knows to be committed.
func commitIndex(n *Node) uint64 {
	if s := n.current(); s != nil {
		return max(s.raft.CommitIndex(), s.commitAtStart)
	}
	return 0
}

// rulesInUse are the snapshot rules that raft follows.
func (s *server) rulesInUse() SnapshotRules {
	rc := s.raft.ReloadableConfig()
	return SnapshotRules{rc.SnapshotThreshold, rc.SnapshotInterval, rc.TrailingLogs}
}
