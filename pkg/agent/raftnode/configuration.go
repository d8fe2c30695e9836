package raftnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

// Configuration is the servers that raft knows here, and the index of the newest
// committed configuration.
func (n *Node) Configuration() ([]raft.Server, uint64, error) {
	s, done, err := n.enter()
	if err != nil {
		return nil, 0, err
	}
	defer done()
	return s.raft.GetConfiguration().Configuration().Servers, s.fsm.ConfigIndex(), nil
}

// HasState says whether this server has ever been part of a cluster, so that it
// must not be bootstrapped.
func (n *Node) HasState() (bool, error) {
	s, done, err := n.enter()
	if err != nil {
		return false, err
	}
	defer done()
	return raft.HasExistingState(s.log, s.log, s.snaps)
}

// Bootstrap founds a cluster of these servers. Each of them may do it, with the
// same list, if it has no state.
func (n *Node) Bootstrap(servers []raft.Server) error {
	s, done, err := n.enter()
	if err != nil {
		return err
	}
	defer done()
	if err := s.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return fmt.Errorf("bootstrap a cluster of %d servers: %w", len(servers), err)
	}
	s.electSingleVoter()
	return nil
}

// AddNonvoter adds a server that gets every entry and has no vote. For one that
// is there already it changes the address.
func (n *Node) AddNonvoter(ctx context.Context, id, addr string) error {
	return n.change(ctx, "add non-voter "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueTimeout)
	})
}

// AddVoter adds a server with a vote, or gives one to a non-voter.
func (n *Node) AddVoter(ctx context.Context, id, addr string) error {
	return n.change(ctx, "add voter "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueTimeout)
	})
}

// DemoteVoter takes a server's vote.
func (n *Node) DemoteVoter(ctx context.Context, id string) error {
	return n.change(ctx, "demote voter "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.DemoteVoter(raft.ServerID(id), 0, enqueueTimeout)
	})
}

// RemoveServer takes a server out of the cluster. A leader may remove itself; it
// then steps down.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	return n.change(ctx, "remove server "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.RemoveServer(raft.ServerID(id), 0, enqueueTimeout)
	})
}

func (n *Node) change(ctx context.Context, what string, begin func(*raft.Raft) raft.IndexFuture) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", what, api.ErrNoLeader, err)
	}
	defer done()
	f, err := await(ctx, s, func() raft.IndexFuture { return begin(s.raft) })
	if err := outcomeError(f, err); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// TransferLeadership hands the leadership to another voter, to any if id is "".
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("transfer leadership: %w: %w", api.ErrNoLeader, err)
	}
	defer done()
	begin := s.raft.LeadershipTransfer
	if id != "" {
		addr, err := s.addressOf(id)
		if err != nil {
			return fmt.Errorf("transfer leadership: %w", err)
		}
		begin = func() raft.Future { return s.raft.LeadershipTransferToServer(raft.ServerID(id), addr) }
	}
	if _, err := await(ctx, s, begin); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

func (s *server) addressOf(id string) (raft.ServerAddress, error) {
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		if server.ID == raft.ServerID(id) {
			return server.Address, nil
		}
	}
	return "", fmt.Errorf("server %s is not in raft's configuration", id)
}

// Snapshot takes a snapshot now, unless there is nothing new.
func (n *Node) Snapshot(ctx context.Context) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	defer done()
	_, err = await(ctx, s, func() raft.Future { return s.raft.Snapshot() })
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	return nil
}
