package raftnode

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

// Configuration is the servers of the newest configuration that this server has, and the
// index of the newest committed one.
func (n *Node) Configuration() ([]raft.Server, uint64, error) {
	s, done, err := n.enter()
	if err != nil {
		return nil, 0, err
	}
	defer done()
	return s.servers(), s.fsm.ConfigIndex(), nil
}

// HasState says whether this server has ever been part of a cluster: then it must not
// be bootstrapped.
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

// TransferLeadership hands the leadership to another voter.
func (n *Node) TransferLeadership(ctx context.Context) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("transfer leadership: %w: %w", api.ErrNoLeader, err)
	}
	defer done()
	if _, err := await(ctx, s, s.raft.LeadershipTransfer); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}
