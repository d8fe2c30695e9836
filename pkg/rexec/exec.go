// Package rexec asks for remote execution: it has a command run on many nodes and
// tells truthfully what became of it on each.
//
// What it promises:
//   - The targets are fixed before anything begins, from the catalog, nodes that
//     have failed included: those are lost.
//   - It is done as soon as the last target has answered, and successful only if
//     every target ran and returned 0, whatever happened to leaders meanwhile.
//   - What a target wrote is shown before its end is.
//   - When its context ends, the job is stopped: what runs is killed, and nothing
//     of it begins any more.
//
// Against an agent that has no such jobs, a Consul, it speaks that one's protocol
// (consul.go), which promises less.
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
	"github.com/muster-dev/muster/pkg/signed"
)

const (
	// DefaultWait is how long a node may take to answer.
	DefaultWait = 2 * time.Second
	// stopTime is how long we wait for what we have stopped.
	stopTime = 15 * time.Second

	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
)

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

	Show Show
}

// Show is where news go. Its methods are called by one goroutine.
type Show interface {
	// Began names a job's targets.
	Began(id string, targets []string)
	// Output is called with data of one of a node's streams.
	Output(node string, stream int, data []byte)
	// Target is called when a target has entered another state. Of one that has
	// ended all output has been shown.
	Target(t api.ExecTarget)
	// Log says something about how the job is followed.
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

// Targets lists the nodes that the filters select; ErrNoTargets if there is none.
func Targets(ctx context.Context, cfg Config) ([]api.ExecCandidate, error) {
	found, _, err := targets(ctx, cfg)
	return found, err
}

// targets also says whether the agent is a Consul.
func targets(ctx context.Context, cfg Config) (found []api.ExecCandidate, consul bool, err error) {
	err = patiently(ctx, cfg.Show, func() (err error) {
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

// Run runs the job to its end. An error says that it could not, or that ctx has
// ended; what a command returns is no error.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Wait <= 0 {
		cfg.Wait = DefaultWait
	}
	if cfg.Valid <= 0 {
		cfg.Valid = api.ExecOrderLife
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
	request, err := seal(order, cfg.Signer)
	if err != nil {
		return Result{}, err
	}
	cfg.Show.Began(order.ID, order.Targets)
	cfg.Show.Log(slog.LevelDebug, fmt.Sprintf("ordering job %s on %d node(s)", order.ID, len(found)))
	// The same order again is the same job, so an answer that got lost is no harm.
	err = patiently(ctx, cfg.Show, func() error { return cfg.Client.ExecStart(ctx, request, nil) })
	if err != nil && ctx.Err() == nil {
		return Result{}, err
	}
	return Follow(ctx, cfg.Client, order.ID, true, cfg.Show)
}

// seal encodes an order, and signs it.
func seal(order api.ExecOrder, signer *signed.Signer) (api.ExecRequest, error) {
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

// patiently asks again while there is no leader or the answer got lost, and says so
// once. An agent that cannot be reached at all is an error at once.
func patiently(ctx context.Context, show Show, ask func() error) error {
	pause, said := firstRetry, false
	for {
		err := ask()
		var status *api.StatusError
		if err == nil || !errors.As(err, &status) || status.Code != http.StatusInternalServerError || errors.Is(err, api.ErrNoDatacenter) {
			return err
		}
		if !said && pause > 4*firstRetry {
			show.Log(slog.LevelWarn, fmt.Sprintf("%v; trying again", err))
			said = true
		}
		if !rest(ctx, pause) {
			return err
		}
		pause = min(2*pause, lastRetry)
	}
}

// rest returns false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
