package rexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
)

const (
	// DefaultPrefix is where the reference's exec tool keeps its jobs.
	DefaultPrefix = "_rexec"
	// DefaultWaitRepl is how long it waits for a job to reach all servers.
	DefaultWaitRepl = 200 * time.Millisecond

	consulEvent   = "_rexec"
	consulTTL     = 15 * time.Second
	consulRenewal = 5 * time.Second
	// maxMissedHeartbeats is how many heartbeats, one each Wait, a node may miss.
	maxMissedHeartbeats = 3
)

// consulTargets is ExecTargets from the catalog of a Consul, whose agents match the
// service filter with the ids of their services.
func consulTargets(ctx context.Context, cfg Config) ([]api.ExecCandidate, error) {
	if cfg.Tag != "" && cfg.Service == "" {
		return nil, errors.New("Cannot provide tag filter without service filter.")
	}
	var filters [3]*regexp.Regexp
	for i, expr := range []string{cfg.Node, cfg.Service, cfg.Tag} {
		re, err := regexp.Compile(expr)
		if err != nil {
			return nil, fmt.Errorf("compile filter: %w", err)
		}
		filters[i] = re
	}
	checks, _, err := cfg.Client.HealthState(ctx, "any", nil)
	if err != nil {
		return nil, err
	}
	var out []api.ExecCandidate
	for _, c := range checks {
		if c.CheckID != api.SerfHealthID || !filters[0].MatchString(c.Node) {
			continue
		}
		if ok, err := runsOnConsul(ctx, cfg, c.Node, filters[1], filters[2]); err != nil {
			return nil, err
		} else if ok {
			out = append(out, api.ExecCandidate{Node: c.Node, Alive: c.Status != api.HealthCritical})
		}
	}
	slices.SortFunc(out, func(a, b api.ExecCandidate) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}

func runsOnConsul(ctx context.Context, cfg Config, node string, service, tag *regexp.Regexp) (bool, error) {
	if cfg.Service == "" {
		return true, nil
	}
	n, _, err := cfg.Client.NodeServices(ctx, node, nil)
	if err != nil || n == nil {
		return false, err
	}
	for id, s := range n.Services {
		if service.MatchString(id) && (cfg.Tag == "" || slices.ContainsFunc(s.Tags, tag.MatchString)) {
			return true, nil
		}
	}
	return false, nil
}

// consulJob is the value of the key PREFIX/SESSION/job.
type consulJob struct {
	Command string   `json:",omitempty"`
	Args    []string `json:",omitempty"`
	Script  []byte   `json:",omitempty"`
	Wait    time.Duration
}

// consulRun is one job by the reference's protocol: a session, keys that it
// holds, an event, and keys in which the nodes answer.
type consulRun struct {
	cfg     Config
	session string
	targets map[string]*consulTarget // by lower-case name
	order   []string
}

type consulTarget struct {
	api.ExecTarget
	seen time.Time       // when it last wrote a key
	read map[string]bool // its keys that were read
}

// runConsul runs a job by the reference's protocol. Nodes on which remote execution is off
// do not answer: they are lost.
func runConsul(ctx context.Context, cfg Config, found []api.ExecCandidate) (Result, error) {
	if cfg.Parallel > 0 || cfg.MaxFail > 0 || cfg.Timeout > 0 || cfg.Job != "" || cfg.Signer != nil {
		return Result{}, errors.New("this agent is a Consul: -n, -max-fail, -timeout, -job and -sign need muster agents")
	}
	r := &consulRun{cfg: cfg, targets: map[string]*consulTarget{}}
	for _, t := range found {
		r.order = append(r.order, t.Node)
		r.targets[strings.ToLower(t.Node)] = &consulTarget{
			ExecTarget: api.ExecTarget{Node: t.Node, State: api.ExecCalled}, read: map[string]bool{},
		}
	}
	var err error
	r.session, err = cfg.Client.SessionCreate(ctx, api.SessionCreate{Name: "Remote Exec", Behavior: api.SessionDelete, TTL: consulTTL.String()}, nil)
	if err != nil {
		return Result{}, fmt.Errorf("create a session: %w", err)
	}
	defer r.cleanUp(ctx)
	renewing, stop := context.WithCancel(ctx)
	defer stop()
	go r.renew(renewing)
	cfg.Display.Began(r.session, r.order)
	cfg.Display.Log(slog.LevelDebug, "the agent is a Consul: speaking its protocol")
	for _, t := range found {
		if !t.Alive {
			r.end(t.Node, api.ExecLost, 0, "the node failed")
		}
	}
	if err := r.fire(ctx); err != nil {
		return Result{}, err
	}
	err = r.collect(ctx)
	return r.result(), err
}

func (r *consulRun) dir() string { return r.cfg.Prefix + "/" + r.session + "/" }

func (r *consulRun) renew(ctx context.Context) {
	for retry.Sleep(ctx, consulRenewal) == nil {
		_, _ = r.cfg.Client.SessionRenew(ctx, r.session, nil) // the next one may succeed
	}
}

// cleanUp removes the job's keys and its session.
func (r *consulRun) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	_, err := r.cfg.Client.KVDelete(ctx, r.dir(), client.KVWrite{Recurse: true}, nil)
	if err = errors.Join(err, r.cfg.Client.SessionDestroy(ctx, r.session, nil)); err != nil {
		r.cfg.Display.Log(slog.LevelWarn, fmt.Sprintf("could not remove the job under %s: %v", r.dir(), err))
	}
}

func (r *consulRun) fire(ctx context.Context) error {
	job := consulJob{Script: r.cfg.Script, Wait: r.cfg.Wait}
	switch {
	case r.cfg.Shell:
		job.Command = r.cfg.Command[0]
	case len(r.cfg.Script) == 0:
		job.Args = r.cfg.Command
	}
	data, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	if ok, err := r.cfg.Client.KVPut(ctx, r.dir()+"job", data, client.KVWrite{Acquire: r.session}, nil); err != nil || !ok {
		return errors.Join(errors.New("could not write the job"), err)
	}
	_ = retry.Sleep(ctx, r.cfg.WaitRepl) // the requests that follow end with ctx
	payload, err := json.Marshal(map[string]string{"Prefix": r.cfg.Prefix, "Session": r.session})
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	_, err = r.cfg.Client.EventFire(ctx, api.Event{
		Name: consulEvent, Payload: payload, NodeFilter: r.cfg.Node, ServiceFilter: r.cfg.Service, TagFilter: r.cfg.Tag,
	}, nil)
	if err != nil {
		return fmt.Errorf("fire the event: %w", err)
	}
	for _, t := range r.targets {
		t.seen = time.Now()
	}
	return nil
}

// collect reads the nodes' keys until all have ended or are given up.
func (r *consulRun) collect(ctx context.Context) error {
	var index uint64
	for r.open() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		keys, meta, err := r.cfg.Client.KVKeys(ctx, r.dir(), "", &client.Options{Index: index, Wait: r.cfg.Wait})
		if err == nil {
			err = r.readKeys(ctx, keys)
		}
		if err != nil {
			if ctx.Err() == nil {
				r.cfg.Display.Log(slog.LevelWarn, fmt.Sprintf("%v; trying again", err))
				_ = retry.Sleep(ctx, maxBackoff)
			}
			index = 0
			continue
		}
		index = meta.Index
		r.expireTargets()
	}
	return nil
}

func (r *consulRun) open() bool {
	return slices.ContainsFunc(r.order, func(n string) bool { return !api.ExecFinal(r.targets[strings.ToLower(n)].State) })
}

// readKeys reads the keys that are new, in order: ack, exit, out/00000, ...
func (r *consulRun) readKeys(ctx context.Context, keys []string) error {
	exits := map[*consulTarget]string{}
	for _, key := range keys {
		node, what, ok := strings.Cut(strings.TrimPrefix(key, r.dir()), "/")
		t := r.targets[strings.ToLower(node)]
		if !ok || t == nil || t.read[key] || api.ExecFinal(t.State) {
			continue
		}
		t.seen = time.Now()
		switch {
		case what == "exit":
			exits[t] = key
			continue
		case what == "ack":
			t.State = api.ExecRunning
			r.cfg.Display.Target(t.ExecTarget)
		case strings.HasPrefix(what, "out/"):
			pair, _, err := r.cfg.Client.KVGet(ctx, key, nil)
			if err != nil {
				return err
			}
			if pair != nil && len(pair.Value) > 0 { // an empty one is a heartbeat
				r.cfg.Display.Output(t.Node, api.ExecStdout, pair.Value)
			}
		}
		t.read[key] = true
	}
	for t, key := range exits { // after the output
		pair, _, err := r.cfg.Client.KVGet(ctx, key, nil)
		if err != nil {
			return err
		}
		if pair == nil {
			continue
		}
		code, err := strconv.Atoi(strings.TrimSpace(string(pair.Value)))
		switch {
		case err != nil:
			r.end(t.Node, api.ExecFailed, 1, fmt.Sprintf("its exit code is %q", pair.Value))
		case code == 0:
			r.end(t.Node, api.ExecOK, 0, "")
		default:
			r.end(t.Node, api.ExecFailed, code, "")
		}
	}
	return nil
}

func (r *consulRun) end(node, state string, code int, why string) {
	t := r.targets[strings.ToLower(node)]
	t.State, t.Code, t.Error = state, code, why
	r.cfg.Display.Target(t.ExecTarget)
}

// expireTargets ends as lost the targets that have not answered in time.
func (r *consulRun) expireTargets() {
	for _, name := range r.order {
		t := r.targets[strings.ToLower(name)]
		silent := time.Since(t.seen)
		switch {
		case t.State == api.ExecCalled && silent > r.cfg.Wait:
			r.end(name, api.ExecLost, 0, fmt.Sprintf("its agent did not answer within %s: is disable_remote_exec = false there?", r.cfg.Wait))
		case t.State == api.ExecRunning && silent > maxMissedHeartbeats*r.cfg.Wait:
			r.end(name, api.ExecLost, 0, fmt.Sprintf("nothing was heard of it for %s", maxMissedHeartbeats*r.cfg.Wait))
		}
	}
}

func (r *consulRun) result() Result {
	out := Result{ID: r.session, Total: len(r.order), States: map[string]int{}}
	for _, t := range r.targets {
		out.States[t.State]++
	}
	return out
}
