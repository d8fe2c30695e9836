package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/client"
)

// maxFailures is how many are kept in the mark.
const maxFailures = 32

// Mark is what LOCK/.abort holds: the failures since it was removed last.
type Mark struct{ Failures []Failure }

// Failure is one machine's.
type Failure struct {
	Host   string
	Time   time.Time
	Reason string
}

func (r *Rollout) markKey() string { return strings.Trim(r.cfg.Lock, "/") + "/.abort" }

func (r *Rollout) mark(ctx context.Context, o *client.Options) (m Mark, meta client.Meta, index uint64, err error) {
	pair, meta, err := r.cfg.Client.KVGet(ctx, r.markKey(), o)
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
	m, _, _, err := r.mark(ctx, nil)
	if err != nil {
		return fmt.Errorf("ask whether the rollout was stopped: %w", err)
	}
	return r.judge(m)
}

func (r *Rollout) judge(m Mark) error {
	if r.cfg.AbortAfter == 0 || len(m.Failures) < r.cfg.AbortAfter {
		return nil
	}
	last := m.Failures[len(m.Failures)-1]
	return fmt.Errorf("%w after %d failures (the last on %s: %s): delete the key %s to go on",
		ErrAborted, len(m.Failures), last.Host, last.Reason, r.markKey())
}

// failed adds a failure to the mark, so that the others see it.
func (r *Rollout) failed(why error) error {
	if r.cfg.AbortAfter == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undrainTime)
	defer cancel()
	failure := Failure{Host: r.host, Time: time.Now().UTC().Truncate(time.Millisecond), Reason: why.Error()}
	for {
		m, _, index, err := r.mark(ctx, nil)
		if err == nil {
			m.Failures = append(m.Failures, failure)
			m.Failures = m.Failures[max(0, len(m.Failures)-maxFailures):]
			data, encodeErr := json.Marshal(m)
			if encodeErr != nil {
				return fmt.Errorf("encode the mark: %w", encodeErr)
			}
			var ok bool
			ok, err = r.cfg.Client.KVPut(ctx, r.markKey(), data, client.KVWrite{CAS: &index}, nil)
			if ok {
				return nil
			}
		}
		if sleep(ctx, gatePause) != nil {
			return fmt.Errorf("note the failure in %s: %w", r.markKey(), err)
		}
	}
}

// Await returns when the rollout is not stopped (any more), or with ctx.
func (r *Rollout) Await(ctx context.Context) error {
	if r.cfg.AbortAfter == 0 {
		return nil
	}
	var index uint64
	for {
		m, meta, _, err := r.mark(ctx, &client.Options{Index: index, Wait: time.Minute})
		if err == nil && r.judge(m) == nil {
			return nil
		}
		index = meta.Index
		if err != nil {
			index = 0
			if sleep(ctx, time.Second) != nil {
				return context.Cause(ctx)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
