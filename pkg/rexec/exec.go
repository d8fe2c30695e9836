// Package rexec runs a command on many nodes and shows its output and its result
// on each.
//
// What it promises:
//   - The targets are fixed from the catalog before anything begins. Nodes that
//     have failed are among them: those are lost.
//   - It returns as soon as the last target has answered. It is successful only if
//     every target ran and returned 0, also after a change of leader.
//   - The output of a target is shown before its end is.
//   - When its context ends, the job is stopped: what runs is killed, and no other
//     target begins.
//
// With an agent that is a Consul it speaks that agent's protocol (consul.go), which
// promises less.
package rexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/signed"
)

const (
	// DefaultWait is how long a node may take to answer.
	DefaultWait = 2 * time.Second
	// stopTime is how long the targets of a stopped job may take to end.
	stopTime = 15 * time.Second

	maxBackoff = time.Second
	// quietFailures is how many attempts may fail, about 0.4 s, before it is logged.
	quietFailures = 4
)

func newBackoff() retry.Backoff { return retry.Backoff{First: 50 * time.Millisecond, Max: maxBackoff} }

// ErrNoTargets says that the filters select no node.
var ErrNoTargets = errors.New("no node matches the filters")

// Config is what to run, where, and how to show it.
type Config struct {
	Client *client.Client

	Node, Service, Tag string // expressions; "" selects all

	// One of them, as in api.ExecOrder.
	Job     string
	Command []string
	Shell   bool
	Script  []byte
	Args    []string

	Parallel int
	MaxFail  int
	Wait     time.Duration // DefaultWait if zero
	Timeout  time.Duration
	Valid    time.Duration // how long nodes may begin it; api.ExecOrderLife if zero
	By       string
	Signer   *signed.Signer // nil does not sign

	// For a Consul only.
	Prefix   string
	WaitRepl time.Duration
	Verbose  bool

	Display Display
}

// Display shows a job to its user. Its methods are called by one goroutine.
type Display interface {
	// Began is called first, with the job's targets.
	Began(id string, targets []string)
	// Output is called with output of one of a node's streams.
	Output(node string, stream int, data []byte)
	// Target is called when a target has entered another state. Before it is called
	// with a final state, Output was called with all output of the target.
	Target(t api.ExecTarget)
	// Log prints a message about the following of the job.
	Log(level slog.Level, text string)
}

// Result counts targets by their states.
type Result struct {
	ID      string
	Total   int
	States  map[string]int
	Stopped string // why the job was stopped, "" if it was not
}

// OK says that every target ran and returned 0.
func (r Result) OK() bool { return r.Total > 0 && r.States[api.ExecOK] == r.Total }

// Targets lists the nodes that the filters select. ErrNoTargets: none.
func Targets(ctx context.Context, cfg Config) ([]api.ExecCandidate, error) {
	found, _, err := targets(ctx, cfg)
	return found, err
}

// targets is Targets. It also says whether the agent is a Consul.
func targets(ctx context.Context, cfg Config) (found []api.ExecCandidate, consul bool, err error) {
	err = retryWithoutLeader(ctx, cfg.Display, func() (err error) {
		found, err = cfg.Client.ExecTargets(ctx, cfg.Node, cfg.Service, cfg.Tag, nil)
		if consul = client.IsStatus(err, http.StatusNotFound); consul {
			found, err = consulTargets(ctx, cfg)
		}
		return err
	})
	if err == nil && len(found) == 0 {
		err = ErrNoTargets
	}
	return found, consul, err
}

// Run runs a job to its end. An error says that it could not be run, or that ctx
// has ended; an exit code of the command is no error.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Wait <= 0 {
		cfg.Wait = DefaultWait
	}
	if cfg.Valid <= 0 {
		cfg.Valid = api.ExecOrderTTL
	}
	found, consul, err := targets(ctx, cfg)
	switch {
	case err != nil:
		return Result{}, err
	case consul:
		return runConsul(ctx, cfg, found)
	}
	order := api.ExecOrder{
		ID: uuid.NewString(), Job: cfg.Job, Command: cfg.Command, Shell: cfg.Shell, Script: cfg.Script, Args: cfg.Args,
		Parallel: cfg.Parallel, MaxFail: cfg.MaxFail, Wait: api.Duration(cfg.Wait), Timeout: api.Duration(cfg.Timeout),
		By: cfg.By, Issued: time.Now().UTC(), Expires: time.Now().Add(cfg.Valid).UTC(),
	}
	for _, t := range found {
		order.Targets = append(order.Targets, t.Node)
	}
	request, err := newRequest(order, cfg.Signer)
	if err != nil {
		return Result{}, err
	}
	cfg.Display.Began(order.ID, order.Targets)
	cfg.Display.Log(slog.LevelDebug, fmt.Sprintf("ordering job %s on %d node(s)", order.ID, len(found)))
	// A repeated order is the same job, so a retry after a lost answer is safe.
	err = retryWithoutLeader(ctx, cfg.Display, func() error { return cfg.Client.ExecStart(ctx, request, nil) })
	if err != nil && ctx.Err() == nil {
		return Result{}, err
	}
	return Follow(ctx, cfg.Client, order.ID, true, cfg.Display)
}

// newRequest encodes an order, and signs it if there is a signer.
func newRequest(order api.ExecOrder, signer *signed.Signer) (api.ExecRequest, error) {
	data, err := json.Marshal(order)
	if err != nil {
		return api.ExecRequest{}, fmt.Errorf("encode the order: %w", err)
	}
	if len(data) > api.MaxExecOrder {
		return api.ExecRequest{}, fmt.Errorf("the order has %d bytes, script and targets included: at most %d are allowed", len(data), api.MaxExecOrder)
	}
	out := api.ExecRequest{Order: data}
	if signer == nil {
		return out, nil
	}
	out.Key = signer.Key.Line()
	out.Signature, err = signer.Sign(api.ExecNamespace, data)
	return out, err
}

// retryWithoutLeader calls ask until it succeeds, fails for good or ctx ends. It
// retries while there is no leader or the answer got lost, and says so once. An
// agent that cannot be reached at all is an error at once.
func retryWithoutLeader(ctx context.Context, show Display, ask func() error) error {
	backoff := newBackoff()
	for failures := 1; ; failures++ {
		err := ask()
		var status *api.StatusError
		if err == nil || !errors.As(err, &status) || status.Code != http.StatusInternalServerError || errors.Is(err, api.ErrNoDatacenter) {
			return err
		}
		if failures == quietFailures {
			show.Log(slog.LevelWarn, fmt.Sprintf("%v; trying again", err))
		}
		if backoff.Sleep(ctx) != nil {
			return err
		}
	}
}
