package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/client"
)

// callName is the name of the message that tells nodes of a job. A node that misses it
// finds the job by its blocking query.
const (
	callName = "muster:exec"
	maxCall  = 400 // bytes of the payload
)

// jobCall is the payload of the message. The id of the job makes each message unique.
type jobCall struct {
	Job   string
	Nodes []string `json:",omitempty"` // empty if the names do not fit into a message; then all nodes look
}

// makeRunner makes the runner of remote execution.
func (a *Agent) makeRunner(own *client.Client) error {
	policy, err := a.execPolicy(a.cfg)
	if err != nil {
		return err
	}
	a.runner = exec.New(exec.Config{
		Node: a.cfg.NodeName, DataDir: a.cfg.DataDir, Client: own, Policy: policy, Logger: a.log,
	})
	return nil
}

// execPolicy makes the policy of remote execution from a configuration.
func (a *Agent) execPolicy(cfg *config.Config) (exec.Policy, error) {
	out := exec.Policy{Enabled: cfg.RemoteExec(), Datacenter: a.cfg.Datacenter, Node: a.cfg.NodeName, Jobs: map[string]exec.NamedJob{}}
	var err error
	if out.Keys, err = cfg.ExecKeys(); err != nil {
		return out, err
	}
	for name, j := range cfg.ExecJobs {
		args, err := j.ArgsExpression()
		if err != nil {
			return out, fmt.Errorf("job %q: %w", name, err)
		}
		out.Jobs[name] = exec.NamedJob{Argv: j.Argv, User: j.User, Args: args, Timeout: j.Timeout}
	}
	return out, nil
}

// call tells nodes of a job.
func (a *Agent) call(job string, nodes []string) {
	if err := a.bus.Publish(callName, encodeCall(job, nodes)); err != nil {
		a.log.Debug("could not call the targets of a job: they find it by themselves", "job", job, "error", err)
	}
}

func encodeCall(job string, nodes []string) []byte {
	payload, err := json.Marshal(jobCall{job, nodes})
	if err == nil && len(payload) > maxCall {
		payload, err = json.Marshal(jobCall{Job: job})
	}
	if err != nil {
		panic(err) // strings always encode
	}
	return payload
}

// called receives the message of a job.
func (a *Agent) called(m bus.Message) {
	if a.ready.Load() && isCalled(m.Payload, a.cfg.NodeName) {
		a.runner.Look()
	}
}

// isCalled says whether a message may be for a node. A payload that cannot be decoded may
// be, because a newer version may have sent it.
func isCalled(payload []byte, node string) bool {
	var c jobCall
	if json.Unmarshal(payload, &c) != nil || len(c.Nodes) == 0 {
		return true
	}
	return slices.ContainsFunc(c.Nodes, func(n string) bool { return strings.EqualFold(n, node) })
}
