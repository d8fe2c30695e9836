package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/handlers"
	"github.com/muster-dev/muster/pkg/logx"
)

// Reload reads the configuration again and puts into effect what may change
// while the agent runs: services, checks, node metadata, watches, jobs, DNS settings,
// when raft takes snapshots, the log level, profiles and the connection limit. What
// did not change is not touched. An error leaves everything as it was. While the
// agent starts it is noted, and done when the agent runs.
func (a *Agent) Reload() error {
	a.phase.Lock()
	defer a.phase.Unlock()
	if !a.phase.running {
		a.phase.reload = true
		a.log.Info("still starting: the configuration is read again once the agent runs")
		return nil
	}
	return a.reload()
}

// reloadIfAsked does what Reload put off.
func (a *Agent) reloadIfAsked() {
	a.phase.Lock()
	defer a.phase.Unlock()
	if !a.phase.reload {
		return
	}
	if err := a.reload(); err != nil {
		a.log.Error("reload failed, nothing changed", "error", err)
	}
}

// next is a configuration that was found good in every part.
type next struct {
	cfg     *config.Config
	watches []handlers.Spec
	level   slog.Level
	policy  exec.Policy
}

func (a *Agent) reload() error {
	if a.opts.Reload == nil {
		return errors.New("reload configuration: this agent was started without any to read")
	}
	fresh, warnings, err := a.opts.Reload()
	if err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	n, err := a.prepare(fresh)
	if err != nil {
		// Its status is meant for those who register over HTTP.
		return api.Errorf(http.StatusInternalServerError, "reload configuration: %v", err)
	}
	// The two that touch the disk can still fail: the watches change as a whole or not at
	// all, and are put back if the services and checks do not.
	if err := a.watches.Replace(n.watches); err != nil {
		return api.Errorf(http.StatusInternalServerError, "reload watches: %v", err)
	}
	if err := a.local.Reload(fresh.Services, fresh.Checks, fresh.NodeMeta); err != nil {
		return api.Errorf(http.StatusInternalServerError, "reload services and checks: %v", errors.Join(err, a.restoreWatches()))
	}
	a.change(n)
	for _, w := range warnings {
		a.log.Warn(w)
	}
	if fixed := config.NotReloadable(a.cfg, fresh); len(fixed) > 0 {
		a.log.Warn("these settings changed and need a restart to take effect", "keys", fixed)
	}
	a.log.Info("configuration reloaded")
	return nil
}

// prepare changes nothing.
func (a *Agent) prepare(fresh *config.Config) (n next, err error) {
	n.cfg = fresh
	if n.watches, err = readWatches(fresh); err != nil {
		return n, err
	}
	if n.level, err = logx.ParseLevel(fresh.LogLevel); err != nil {
		return n, err
	}
	if n.policy, err = a.execPolicy(fresh); err != nil {
		return n, err
	}
	return n, a.local.Check(fresh.Services, fresh.Checks)
}

func (a *Agent) restoreWatches() error {
	watches, err := readWatches(a.live.Load())
	if err == nil {
		err = a.watches.Replace(watches)
	}
	if err != nil {
		return fmt.Errorf("put the watches back: %w", err)
	}
	return nil
}

// change puts into effect what cannot fail.
func (a *Agent) change(n next) {
	a.live.Store(n.cfg)
	if a.opts.Level != nil {
		a.opts.Level.Set(n.level)
	}
	a.runner.SetPolicy(n.policy)
	a.local.SetDiscardCheckOutput(n.cfg.DiscardCheckOutput)
	a.http.SetConnsPerClient(n.cfg.Limits.HTTPMaxConnsPerClient)
	a.dns.Reload(a.dnsConfig(n.cfg))
	if a.server == nil {
		return
	}
	err := a.server.SetSnapshots(uint64(n.cfg.RaftSnapshotThreshold), n.cfg.RaftSnapshotInterval, uint64(n.cfg.RaftTrailingLogs))
	if err != nil { // raft has stopped, and so does the agent
		a.log.Warn("raft keeps its settings", "error", err)
	}
}
