package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/agent/jobs"
	"github.com/muster-dev/muster/pkg/client"
)

// callName is the message that there is a job for some nodes: the names, as JSON,
// or nothing where they are too many for a message. A node that misses it finds the
// job all the same: it has a query open.
const (
	callName  = "muster:exec"
	callSize  = 400
	callToAll = ""
)

// makeRunner makes what runs jobs here.
func (a *Agent) makeRunner(router *forward.Router, own *client.Client) (err error) {
	inside := loopback{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.server != nil {
			a.api.Internal().ServeHTTP(w, r)
		} else if err := router.ToServer(w, r, 0); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	conf := jobs.RunnerConfig{Node: a.cfg.NodeName, DataDir: a.cfg.DataDir, API: own, Logger: a.log}
	if conf.Client, err = client.New(client.Config{Transport: inside, UserAgent: userAgent}); err != nil {
		return err
	}
	if conf.Policy, err = a.execPolicy(a.cfg); err != nil {
		return err
	}
	a.runner = jobs.NewRunner(conf)
	return nil
}

// execPolicy is what a configuration allows others to run here.
func (a *Agent) execPolicy(cfg *config.Config) (jobs.Policy, error) {
	out := jobs.Policy{Enabled: cfg.RemoteExec(), Datacenter: a.cfg.Datacenter, Node: a.cfg.NodeName, Jobs: map[string]jobs.NamedJob{}}
	var err error
	if out.Keys, err = cfg.ExecKeys(); err != nil {
		return out, err
	}
	for name, j := range cfg.ExecJobs {
		args, err := j.ArgsExpression()
		if err != nil {
			return out, fmt.Errorf("job %q: %w", name, err)
		}
		out.Jobs[name] = jobs.NamedJob{Argv: j.Argv, User: j.User, Args: args, Timeout: j.Timeout}
	}
	return out, nil
}

// call tells nodes that there is a job for them.
func (a *Agent) call(nodes []string) {
	payload, err := json.Marshal(nodes)
	if err != nil || len(payload) > callSize {
		payload = []byte(callToAll)
	}
	if err := a.bus.Publish(callName, payload); err != nil {
		a.log.Debug("could not call the targets of a job: they find it by themselves", "error", err)
	}
}

// called takes such a message.
func (a *Agent) called(m bus.Message) {
	var nodes []string
	if len(m.Payload) > 0 && json.Unmarshal(m.Payload, &nodes) != nil {
		return
	}
	mine := func(n string) bool { return strings.EqualFold(n, a.cfg.NodeName) }
	if a.ready.Load() && (len(m.Payload) == 0 || slices.ContainsFunc(nodes, mine)) {
		a.runner.Look()
	}
}
