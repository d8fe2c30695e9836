package agent

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// Reload reads the configuration again and puts into effect what may change
// while the agent runs: services, checks, node metadata, watches, DNS settings, the
// log level and the connection limit. What did not change is not touched. An error
// leaves everything as it was.
func (a *Agent) Reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.opts.Reload == nil {
		return errors.New("reload configuration: this agent was started without any to read")
	}
	fresh, warnings, err := a.opts.Reload()
	if err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	for _, w := range warnings {
		a.log.Warn(w)
	}
	if fixed := config.NotReloadable(a.cfg, fresh); len(fixed) > 0 {
		a.log.Warn("these settings changed and need a restart to take effect", "keys", fixed)
	}
	watches, err := readWatches(fresh)
	if err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	if err := a.local.Reload(fresh.Services, fresh.Checks, fresh.NodeMeta); err != nil {
		// Its status is meant for those who register over HTTP.
		return api.Errorf(http.StatusInternalServerError, "reload services and checks: %v", err)
	}
	if err := a.watches.Replace(watches); err != nil {
		return api.Errorf(http.StatusInternalServerError, "reload watches: %v", err)
	}
	if a.opts.Level != nil {
		level, err := logx.ParseLevel(fresh.LogLevel)
		if err != nil {
			return err
		}
		a.opts.Level.Set(level)
	}
	policy, err := a.execPolicy(fresh)
	if err != nil {
		return err
	}
	a.runner.SetPolicy(policy)
	a.limit.Set(fresh.Limits.HTTPMaxConnsPerClient)
	a.dns.Reload(a.dnsConfig(fresh))
	a.log.Info("configuration reloaded")
	return nil
}
