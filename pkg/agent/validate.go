package agent

import (
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// Validate checks what config.Load cannot, because it is other packages' matter:
// watches, services, checks, named jobs, TLS files. Run does the same first, so that
// a configuration that was called valid starts, as far as that does not depend on
// ports and disks. It opens nothing and changes nothing.
func Validate(cfg *config.Config) error {
	a := New(cfg, Options{Logger: logx.Discard()})
	if _, err := readWatches(cfg); err != nil {
		return err
	}
	if _, err := a.execPolicy(cfg); err != nil {
		return err
	}
	if _, err := mux.LoadIdentity(a.tlsFiles(), a.log); err != nil {
		return err
	}
	return checkDefinitions(cfg)
}

// checkDefinitions is what the local state will say of the services and checks. It
// reads the data directory: a check may belong to a service that was registered over
// HTTP and is kept there.
func checkDefinitions(cfg *config.Config) error {
	return local.New(local.Config{
		Node: api.Node{Node: cfg.NodeName, Datacenter: cfg.Datacenter}, DataDir: cfg.DataDir, Logger: logx.Discard(),
		EnableScriptChecks: cfg.EnableScriptChecks, EnableLocalScriptChecks: cfg.EnableLocalScriptChecks,
	}).Check(cfg.Services, cfg.Checks)
}
