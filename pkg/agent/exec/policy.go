package exec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/signed"
)

// Policy is what a node lets others run on it. It comes from the node's own
// configuration; nothing in the cluster's state can widen it.
type Policy struct {
	Enabled    bool
	Datacenter string
	Node       string
	Jobs       map[string]NamedJob // if not empty, only these are run
	Keys       []signed.Key        // if not empty, only orders signed with one of them are run
}

// NamedJob is a command that others may ask for by name.
type NamedJob struct {
	Argv    []string
	User    string         // "" is the agent's own
	Args    *regexp.Regexp // what each argument must match; nil: no arguments are allowed
	Timeout time.Duration  // longest time to run; 0: what is asked for
}

// plan is what a node runs for an order.
type plan struct {
	order   *api.ExecOrder
	argv    []string
	user    string
	script  []byte // to be run from a file, with argv as its arguments
	timeout time.Duration
	signer  string // fingerprint, "" for unsigned
}

// plan returns what is to be run for a request, or why the policy refuses it.
// Whether the order was run before is checked by seen.
func (p Policy) plan(r api.ExecRequest, now time.Time) (*plan, error) {
	if !p.Enabled {
		return nil, errors.New("remote execution is off here: set enable_remote_exec = true in this node's configuration")
	}
	o, err := state.ReadOrder(r.Order)
	if err != nil {
		return nil, err
	}
	out := &plan{order: o, timeout: o.Timeout.D()}
	if out.signer, err = p.verify(r); err != nil {
		return nil, err
	}
	switch {
	case !now.Before(o.Expires):
		return nil, fmt.Errorf("the order expired at %s", o.Expires.Format(time.RFC3339))
	case o.Datacenter != "" && !strings.EqualFold(o.Datacenter, p.Datacenter):
		return nil, fmt.Errorf("the order is for datacenter %q", o.Datacenter)
	case !slices.ContainsFunc(o.Targets, func(n string) bool { return strings.EqualFold(n, p.Node) }):
		return nil, errors.New("this node is not among the order's targets")
	}
	if o.Job != "" || len(p.Jobs) > 0 {
		return out, p.planNamed(out)
	}
	switch {
	case len(o.Script) > 0:
		out.script, out.argv = o.Script, o.Args
	case o.Shell:
		out.argv = []string{"sh", "-c", o.Command[0]}
	default:
		out.argv = o.Command
	}
	return out, nil
}

// verify returns the fingerprint of the key that signed the order. Only what was
// signed is looked at afterwards: ExecRequest.Key is not.
func (p Policy) verify(r api.ExecRequest) (fingerprint string, err error) {
	if len(p.Keys) == 0 {
		return "", nil
	}
	if len(r.Signature) == 0 {
		return "", errors.New("the order is not signed: this node has exec_authorized_keys")
	}
	key, err := signed.Verify(p.Keys, api.ExecNamespace, r.Order, r.Signature)
	if err != nil {
		return "", fmt.Errorf("verify the order by this node's exec_authorized_keys: %w", err)
	}
	return key.Fingerprint(), nil
}

// planNamed completes the plan of an order for a named job.
func (p Policy) planNamed(out *plan) error {
	o := out.order
	if o.Job == "" {
		return errors.New("this node runs named jobs only")
	}
	j, ok := p.Jobs[o.Job]
	if !ok {
		return fmt.Errorf("this node has no job %q", o.Job)
	}
	for _, arg := range o.Args {
		if j.Args == nil {
			return fmt.Errorf("the job %q takes no arguments", o.Job)
		}
		if !j.Args.MatchString(arg) {
			return fmt.Errorf("the job %q does not take the argument %q", o.Job, arg)
		}
	}
	out.argv, out.user = append(slices.Clone(j.Argv), o.Args...), j.User
	if j.Timeout > 0 && (out.timeout == 0 || j.Timeout < out.timeout) {
		out.timeout = j.Timeout
	}
	return nil
}
