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

// Reload reads the configuration again and applies what can change while the agent runs:
// services, checks, node metadata, watches, jobs, DNS settings, the snapshot settings of
// raft, the log level, profiles and the connection limit. Unchanged settings are not
// touched. After an error nothing has changed. During the start it only records the
// request, and the reload follows when the agent runs.
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

// reloadIfAsked does the reload that was requested during the start.
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

// next is a new configuration, validated and parsed.
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
		// err may have the status of a registration over HTTP, which does not fit here.
		return api.Errorf(http.StatusInternalServerError, "reload configuration: %v", err)
	}
	// Only the two steps that write to disk can still fail. The watches change as a whole
	// or not at all, and are restored if services and checks cannot change.
	if err := a.watches.Replace(n.watches); err != nil {
		return api.Errorf(http.StatusInternalServerError, "reload watches: %v", err)
	}
	if err := a.local.Reload(fresh.Services, fresh.Checks, fresh.NodeMeta); err != nil {
		return api.Errorf(http.StatusInternalServerError, "reload services and checks: %v", errors.Join(err, a.restoreWatches()))
	}
	a.apply(n)
	for _, w := range warnings {
		a.log.Warn(w)
	}
	if fixed := config.NotReloadable(a.cfg, fresh); len(fixed) > 0 {
		a.log.Warn("these settings changed and need a restart to take effect", "keys", fixed)
	}
	a.log.Info("configuration reloaded")
	return nil
}

// prepare validates and parses a new configuration. It changes nothing.
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

// apply applies the settings whose change cannot fail.
func (a *Agent) apply(n next) {
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
	if err != nil { // raft has stopped, so the agent stops too
		a.log.Warn("raft keeps its settings", "error", err)
	}
}
