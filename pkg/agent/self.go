package agent

import (
	"maps"
	"runtime"
	"strconv"

	"github.com/muster-dev/muster/pkg/agent/httpapi"
)

// Self returns the answer of /v1/agent/self.
func (a *Agent) Self() httpapi.Self {
	live := a.live.Load()
	return httpapi.Self{
		Config: httpapi.SelfConfig{
			Datacenter:        a.cfg.Datacenter,
			PrimaryDatacenter: a.cfg.PrimaryDatacenter,
			NodeName:          a.cfg.NodeName,
			NodeID:            a.id,
			Revision:          a.opts.Revision,
			Server:            a.cfg.Server,
			Version:           a.opts.Version,
		},
		DebugConfig: map[string]any{
			"BindAddr":        a.cfg.Bind.String(),
			"AdvertiseAddr":   a.cfg.Advertise.String(),
			"BootstrapExpect": a.cfg.BootstrapExpect,
			"DataDir":         a.cfg.DataDir,
			"DevMode":         a.cfg.Dev,
			"HTTPAddrs":       a.cfg.Listen.HTTP,
			"DNSAddrs":        a.cfg.Listen.DNS,
			"LogLevel":        live.LogLevel,
			"SerfPortLAN":     a.cfg.Ports.SerfLAN,
			"ServerPort":      a.cfg.Ports.Server,
		},
		Member: a.pool.Local(),
		Stats:  a.stats(),
		Meta:   live.NodeMeta,
	}
}

func (a *Agent) stats() map[string]map[string]string {
	out := map[string]map[string]string{
		"agent":    a.local.Stats(),
		"build":    {"revision": a.opts.Revision, "version": a.opts.Version, "prerelease": "", "version_metadata": ""},
		"serf_lan": a.pool.Stats(),
		"runtime": {
			"arch":       runtime.GOARCH,
			"cpu_count":  strconv.Itoa(runtime.NumCPU()),
			"goroutines": strconv.Itoa(runtime.NumGoroutine()),
			"max_procs":  strconv.Itoa(runtime.GOMAXPROCS(0)),
			"os":         runtime.GOOS,
			"version":    runtime.Version(),
		},
		"consul": {
			"server":        strconv.FormatBool(a.cfg.Server),
			"known_servers": strconv.Itoa(len(a.pool.Servers())),
			"acl":           "disabled",
		},
	}
	if a.server != nil {
		maps.Copy(out, a.server.Stats())
	}
	return out
}

// Metrics returns the metrics of the last full interval.
func (a *Agent) Metrics() (any, error) { return a.telemetry.summary() }
