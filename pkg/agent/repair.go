package agent

import (
	"context"
	"errors"

	"github.com/muster-dev/muster/pkg/agent/server"
)

// repair moves a server's damaged raft data aside.
func (a *Agent) repair(ctx context.Context) error {
	if !a.cfg.Server {
		return errors.New("repair: this agent is a client and has no raft data: start without -repair")
	}
	return server.Repairer{
		DataDir: a.cfg.DataDir,
		Alone:   a.cfg.Bootstrap || a.cfg.BootstrapExpect == 1,
		Join:    a.cfg.RetryJoin,
		NodeID:  a.cfg.NodeID,
		Logger:  a.log,
	}.Repair(ctx)
}
