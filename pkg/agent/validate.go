package agent

import (
	"log/slog"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// Validate checks the parts of a configuration that config.Load cannot, because other
// packages define them: watches, services, checks, named jobs, TLS files. Run calls it
// first, so a valid configuration can only fail to start because of ports or disks. It
// opens no port and changes nothing.
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

// checkDefinitions validates services and checks as the local state does at the start.
// It reads the data directory, because a check may belong to a service that was
// registered over HTTP and is saved there.
func checkDefinitions(cfg *config.Config) error {
	return local.New(local.Config{
		Node: api.Node{Node: cfg.NodeName, Datacenter: cfg.Datacenter}, DataDir: cfg.DataDir, Logger: logx.Discard(),
		EnableScriptChecks: cfg.EnableScriptChecks, EnableLocalScriptChecks: cfg.EnableLocalScriptChecks,
		CheckOutputMaxSize: cfg.CheckOutputMaxSize,
	}).Check(cfg.Services, cfg.Checks)
}

// warnOfOutsiders logs one warning about what anyone who reaches the ports can do, and
// the settings that would prevent it.
func warnOfOutsiders(log *slog.Logger, encrypted, verified, alone bool) {
	if alone {
		return // a development agent on 127.0.0.1
	}
	var missing, can []string
	if !encrypted {
		missing = append(missing, "encrypt")
		can = append(can, "whoever reaches the gossip port can join, read the membership, make members up and have living ones taken for failed")
	}
	if !verified {
		missing = append(missing, "tls.internal_rpc.ca_file, cert_file and key_file")
		can = append(can, "whoever reaches the server port can read and write everything and take part in raft")
	}
	if len(missing) > 0 {
		log.Warn("outsiders are not kept out: "+strings.Join(can, "; ")+": keep these ports to networks that you trust", "missing", missing)
	}
}
