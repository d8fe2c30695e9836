package server

import (
	"context"
	"strconv"
	"testing"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/api"
)

// pilotConf is what startServer configures.
var pilotConf = autopilot.Config{ServerStabilizationTime: time.Second}

func portText(port int) string { return strconv.Itoa(port) }

func voterState(ts *testServer, name string) string {
	for _, srv := range ts.RaftConfiguration().Servers {
		if srv.Node == name {
			if srv.Voter {
				return "voter"
			}
			return "non-voter"
		}
	}
	return ""
}

// inMemory is the identity of a server without a disk.
func inMemory(t *testing.T, id string) *clusterid.Identity {
	t.Helper()
	i, err := clusterid.Open("", id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// endedInto runs a server and sends what it ended with.
func endedInto(ended chan<- error) func(*Server) func(context.Context) error {
	return func(s *Server) func(context.Context) error {
		return func(ctx context.Context) error {
			ended <- s.Run(ctx)
			return nil
		}
	}
}

// noPool is a pool that never came up.
type noPool struct{}

func (noPool) AwaitUp(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
func (noPool) Members() []api.Member             { return nil }
func (noPool) ServerByID(string) (gossip.Server, bool) {
	return gossip.Server{}, false
}
func (noPool) Cluster() string                { return "" }
func (noPool) SetTag(string, string) error    { return nil }
func (noPool) ForceLeave(string, bool) error  { return nil }
func (noPool) UserEvent(string, []byte) error { return nil }
func (noPool) Leave() error                   { return nil }

// commitIndex is the newest entry that raft at this server knows to be committed.
func commitIndex(ts *testServer) uint64 {
	r, err := ts.node.Raft()
	if err != nil {
		return 0
	}
	return r.CommitIndex()
}
