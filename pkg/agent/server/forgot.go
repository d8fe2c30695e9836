package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/gossip"
)

// A server without raft state is new, or it has lost its data directory under an
// id that its configuration fixes. The second may have voted, and acknowledged
// what nobody else has; it may do neither under that id again. So whoever has
// nothing takes no part in raft before it is among those that begin a cluster, or
// a server of the cluster has said that the id has no vote there.

const (
	voterPath  = "/v1/internal/raft-voter"
	voterAgain = time.Second
	voterLimit = 2 * time.Second
)

var errForgot = errors.New("this server votes in its cluster, but its data directory holds nothing")

// gate lets no raft stream in before it is opened.
type gate struct {
	net.Listener
	opened, closed       chan struct{}
	openOnce, closedOnce sync.Once
}

func newGate(l net.Listener) *gate {
	return &gate{Listener: l, opened: make(chan struct{}), closed: make(chan struct{})}
}

func (g *gate) open() { g.openOnce.Do(func() { close(g.opened) }) }

func (g *gate) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
		return g.Listener.Accept()
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *gate) Close() error {
	g.closedOnce.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// admit opens the gate as soon as this server may take part in raft. An error is
// for good.
func (s *Server) admit(ctx context.Context) error {
	for {
		next := s.changed.next()
		if has, err := s.node.HasState(); err != nil || has || s.begins.Load() {
			s.gate.open()
			return nil // an error: raft has ended
		}
		votes, err := s.hasVote(ctx)
		switch {
		case err == nil && votes:
			return fmt.Errorf("%w: id %s may have voted or acknowledged what is lost now. "+
				"Restore the data directory as it was, or give this server another node_id (or none): it then joins as a new one and the old id is removed", errForgot, s.cfg.NodeID)
		case err == nil:
			s.gate.open()
			return nil
		}
		s.cfg.Logger.Debug("not known yet whether this server has a vote in a cluster", "error", err)
		if !waitFor(ctx, next, voterAgain) {
			return nil
		}
	}
}

// hasVote asks the servers that have raft state, until one answers.
func (s *Server) hasVote(ctx context.Context) (bool, error) {
	err := errors.New("no server with raft state is known")
	for _, m := range s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		if !ok || srv.ID == s.cfg.NodeID || srv.Tags[gossip.TagBoot] == "" {
			continue
		}
		var said voterAnswer
		ask, cancel := context.WithTimeout(ctx, voterLimit)
		err = s.askServer(ask, srv.Addr, voterPath+"?"+url.Values{"id": {s.cfg.NodeID}}.Encode(), &said)
		cancel()
		if err == nil {
			return said.Voter, nil
		}
	}
	return false, err
}

type voterAnswer struct{ Voter bool }

// voter answers whether an id has a vote in the newest configuration here.
func (s *Server) voter(r *http.Request) (any, error) {
	servers, _, err := s.node.Configuration()
	if err != nil {
		return nil, err
	}
	for _, srv := range servers {
		if string(srv.ID) == r.URL.Query().Get("id") && srv.Suffrage == raft.Voter {
			return voterAnswer{true}, nil
		}
	}
	return voterAnswer{}, nil
}
