package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/client"

	"github.com/muster-dev/muster/pkg/retry"
)

// maxFailures is how many the failure log keeps.
const maxFailures = 32

// FailureLog is what LOCK/.abort holds: the failures since it was removed last.
type FailureLog struct{ Failures []Failure }

// Failure is one machine's.
type Failure struct {
	Host   string
	Time   time.Time
	Reason string
}

func (r *Rollout) failureLogKey() string { return strings.Trim(r.cfg.Lock, "/") + "/.abort" }

func (r *Rollout) failureLog(ctx context.Context, o *client.Options) (m FailureLog, meta client.Meta, index uint64, err error) {
	pair, meta, err := r.cfg.Client.KVGet(ctx, r.failureLogKey(), o)
	if err != nil || pair == nil {
		return m, meta, 0, err
	}
	if err := json.Unmarshal(pair.Value, &m); err != nil {
		return m, meta, 0, fmt.Errorf("read %s: %w", pair.Key, err)
	}
	return m, meta, pair.ModifyIndex, nil
}

// aborted is ErrAborted when there were too many failures.
func (r *Rollout) aborted(ctx context.Context) error {
	if r.cfg.AbortAfter == 0 {
		return nil
	}
	m, _, _, err := r.failureLog(ctx, nil)
	if err != nil {
		return fmt.Errorf("ask whether the rollout was stopped: %w", err)
	}
	return r.stopped(m)
}

// stopped is ErrAborted when there are too many failures.
func (r *Rollout) stopped(m FailureLog) error {
	if r.cfg.AbortAfter == 0 || len(m.Failures) < r.cfg.AbortAfter {
		return nil
	}
	last := m.Failures[len(m.Failures)-1]
	return fmt.Errorf("%w after %d failures (the last on %s: %s): delete the key %s to go on",
		ErrAborted, len(m.Failures), last.Host, last.Reason, r.failureLogKey())
}

// failed adds a failure to the failure log, so that the others see it.
func (r *Rollout) failed(why error) error {
	if r.cfg.AbortAfter == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undrainTime)
	defer cancel()
	failure := Failure{Host: r.host, Time: time.Now().UTC().Truncate(time.Millisecond), Reason: why.Error()}
	for {
		m, _, index, err := r.failureLog(ctx, nil)
		if err == nil {
			m.Failures = append(m.Failures, failure)
			m.Failures = m.Failures[max(0, len(m.Failures)-maxFailures):]
			data, encodeErr := json.Marshal(m)
			if encodeErr != nil {
				return fmt.Errorf("encode the failure log: %w", encodeErr)
			}
			var ok bool
			ok, err = r.cfg.Client.KVPut(ctx, r.failureLogKey(), data, client.KVWrite{CAS: &index}, nil)
			if ok {
				return nil
			}
		}
		if retry.Sleep(ctx, gatePause) != nil {
			return fmt.Errorf("note the failure in %s: %w", r.failureLogKey(), err)
		}
	}
}

// Wait returns when the rollout is not stopped (any more), or with ctx.
func (r *Rollout) Wait(ctx context.Context) error {
	if r.cfg.AbortAfter == 0 {
		return nil
	}
	var index uint64
	for {
		m, meta, _, err := r.failureLog(ctx, &client.Options{Index: index, Wait: time.Minute})
		if err == nil && r.stopped(m) == nil {
			return nil
		}
		index = meta.Index
		if err != nil {
			index = 0
			if retry.Sleep(ctx, time.Second) != nil {
				return context.Cause(ctx)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
