package agent

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/handlers"
	"github.com/muster-dev/muster/pkg/proc"
)

func readWatches(cfg *config.Config) ([]handlers.Spec, error) {
	entries := make([]map[string]any, len(cfg.Watches))
	for i, w := range cfg.Watches {
		entries[i] = w
	}
	specs, err := handlers.Read("watches", entries)
	if err != nil {
		return nil, err
	}
	for i, spec := range specs {
		words := spec.Args
		if spec.Handler != "" {
			words = []string{spec.Handler}
		}
		if spec.HTTP != nil {
			continue
		}
		if _, _, err := proc.Resolve(words, spec.Shell); err != nil {
			return nil, fmt.Errorf("watches[%d]: %w", i, err)
		}
	}
	return specs, nil
}

// makeWatches makes the handlers of the watches in the configuration. They use the engine
// of the watch tool, and send their requests to this agent through self.
func (a *Agent) makeWatches(self http.RoundTripper) (*handlers.Set, error) {
	specs, err := readWatches(a.cfg)
	if err != nil {
		return nil, err
	}
	dir := ""
	if a.cfg.DataDir != "" {
		dir = filepath.Join(a.cfg.DataDir, "watches")
	}
	return handlers.New(handlers.Config{
		Client: func(token string) (handlers.Client, error) {
			return client.New(client.Config{Transport: self, UserAgent: userAgent, Token: token})
		},
		Address: "this agent", Dir: dir, Logger: a.log,
		Env: os.Environ(), Capture: true, Isolate: true,
	}, specs), nil
}
