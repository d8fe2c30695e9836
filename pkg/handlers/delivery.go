package handlers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/watch"
)

// delivery runs the handler of one watch for its updates. mu guards inbox and status; all
// other variables belong to the goroutine in run.
//
//	           due            exit 0
//	waiting --------> running --------> waiting, cursor moved
//	   ^                 |
//	   |                 | any other end: retried after a backoff, or replaced by a
//	   +-----------------+ newer update
type delivery struct {
	spec        Spec
	id          identity
	dir         string // of cursors; "" is none
	dirOptional bool   // without a usable dir the watch runs without a file
	handler     Handler
	once        bool // end after the first delivery, of which there is one attempt
	log         *slog.Logger

	ack interface { // nil: events are not acknowledged
		EventAck(ctx context.Context, id, node string, o *client.Options) error
	}
	onSince func()        // called when since has changed; may be nil
	since   atomic.Uint64 // of durable events, for query

	wake   chan struct{} // capacity 1: inbox is not empty
	mu     sync.Mutex
	inbox  []update
	status WatchStatus

	cursor    *cursor
	touchTick <-chan time.Time // time to touch the cursor file
	pending   pending
	pace      watch.Pace
	running   update    // of the handler that runs
	hasFirst  bool      // the first update has arrived
	force     bool      // deliver the first update even if it was delivered before
	oldest    time.Time // when the oldest waiting update arrived
	newest    time.Time
	failures  int // in a row, of the next update
	retryAt   time.Time

	sinceAdvance int       // durable events since the last advance
	ackAt        time.Time // when acknowledging is retried; zero: never
	ackFailures  int
}

// The delay before a failed delivery is retried; it doubles.
const (
	firstBackoff = time.Second
	maxBackoff   = time.Minute
)

// put adds an update to the inbox. It does not block.
func (d *delivery) put(v update) {
	d.mu.Lock()
	d.inbox = append(d.inbox, v)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// hasFile reports whether the cursor has a file. It needs none where the start does not
// depend on earlier deliveries.
func (d *delivery) hasFile() bool {
	return d.dir != "" && (d.spec.Initial == "" || d.spec.Initial == InitialIfChanged)
}

// run delivers until ctx ends. It returns an error if nothing can be delivered, or, with
// once, if the one attempt failed.
func (d *delivery) run(ctx context.Context) error {
	dir := d.dir
	if !d.hasFile() {
		dir = ""
	}
	cur, err := openCursor(dir, d.id, d.spec.KeepValues)
	if d.dirOptional && errors.Is(err, errNoCursor) {
		d.log.Warn("nothing is remembered: the next start delivers again, and a second process is not noticed; -state-dir names another place", "error", err)
		cur, err = &cursor{}, nil
	}
	if err != nil {
		return err
	}
	defer cur.close()
	d.cursor = cur
	daily := time.NewTicker(touchEvery)
	defer daily.Stop()
	d.touchTick = daily.C
	d.pending = pending{overlap: d.spec.Overlap, events: d.spec.Type == typeEvent}
	d.pace = watch.Pace{Wait: watch.Wait{Min: d.spec.Settle}.WithDefaults()}
	d.publish(StateUnanswered)
	d.acknowledge(ctx)
	for {
		v, ok := d.next(ctx)
		if !ok {
			return nil
		}
		if err := d.deliver(ctx, v); err != nil && ctx.Err() == nil && d.once {
			return err
		}
		if d.once {
			return nil
		}
	}
}

// next waits until an update is due and returns it; false when there will be none.
func (d *delivery) next(ctx context.Context) (update, bool) {
	for {
		d.drain()
		var due, acks <-chan time.Time
		if !d.ackAt.IsZero() {
			acks = time.After(time.Until(d.ackAt))
		}
		if len(d.pending.updates) > 0 {
			wait := time.Until(d.dueAt())
			if wait <= 0 {
				d.oldest = time.Time{}
				return d.pending.pop(), true
			}
			due = time.After(wait)
		} else if d.once && d.hasFirst {
			return update{}, false
		}
		if d.hasFirst {
			d.publish(StateIdle)
		}
		select {
		case <-d.wake:
		case <-due:
		case <-acks:
			d.acknowledge(ctx)
		case <-d.touchTick:
			d.cursor.touch()
		case <-ctx.Done():
			return update{}, false
		}
	}
}

// dueAt is when the next update may be delivered.
func (d *delivery) dueAt() time.Time {
	at := d.newest
	if !d.oldest.IsZero() {
		at = d.pace.Due(d.oldest, d.newest, time.Time{})
	}
	if d.retryAt.After(at) {
		at = d.retryAt
	}
	return at
}

// drain moves updates from the inbox to pending.
func (d *delivery) drain() {
	d.mu.Lock()
	arrived := d.inbox
	d.inbox = nil
	d.mu.Unlock()
	for _, v := range arrived {
		v, isNew := d.dropSeen(v)
		d.hasFirst = true
		if !isNew {
			continue
		}
		if lost := d.pending.add(v); lost > 0 {
			d.log.Error("too much waits for a watch handler: left out the oldest", "lost", lost)
		}
		d.newest = time.Now()
		if d.oldest.IsZero() {
			d.oldest = d.newest
		}
		if d.spec.Overlap != OverlapQueue {
			d.retryAt = time.Time{} // the newer update may succeed
			if !d.pending.events {
				d.failures = 0
			}
		}
	}
}

// dropSeen removes from an update what was delivered before. It returns false if nothing
// is left to deliver.
func (d *delivery) dropSeen(v update) (update, bool) {
	first, initial := !d.hasFirst, d.spec.Initial
	if d.spec.Durable && len(v.items) > 0 {
		v.index = v.items[len(v.items)-1].at
	}
	switch {
	case first && initial == InitialNever:
		d.moveCursor(v, false)
		return v, false
	case first && initial == InitialAlways:
		d.force = true
		return v, true
	case d.spec.Type != typeEvent, first && d.cursor.last == nil && !d.spec.Durable:
		return v, true
	}
	v.items = slices.DeleteFunc(slices.Clone(v.items), func(it item) bool {
		return slices.Contains(d.cursor.events(), it.Key) || d.spec.Durable && it.at <= d.cursor.position() || d.running.has(it.Key) || d.pending.has(it.Key)
	})
	return v, len(v.items) > 0
}

// deliver runs the handler on an update and notes the result.
func (d *delivery) deliver(ctx context.Context, v update) error {
	in, run, err := d.input(v)
	if err != nil {
		return err
	}
	d.force = false
	if !run {
		d.failures = 0
		return nil
	}
	d.running = v
	d.publish(StateRunning)
	cause, err := d.handle(ctx, in)
	d.running = update{}
	d.countRun(v, err)
	switch {
	case err == nil:
		d.failures = 0
		d.moveCursor(v, d.ack != nil)
		d.acknowledge(ctx)
		d.advance(len(v.items))
	case ctx.Err() != nil: // the next start delivers it
	case errors.Is(cause, errSuperseded):
		d.pending.putBack(v)
	case d.once:
	default:
		d.failed(v, in, err)
	}
	return err
}

// input is the handler's input. It returns false if the handler need not run: it has had
// this already.
func (d *delivery) input(v update) (Input, bool, error) {
	body := v.body()
	last := d.cursor.last
	if d.spec.Type != typeEvent && !d.force && last != nil && last.Hash == hashOf(body) {
		return Input{}, false, nil
	}
	if !d.spec.Changes {
		return Input{v.index, append(body[:len(body):len(body)], '\n')}, true, nil
	}
	var old []item
	var salt string
	if last != nil && d.spec.Type != typeEvent && !d.force {
		old, salt = last.Items, last.Salt
	}
	data, err := lines(changes(old, salt, v))
	if len(data) == 0 && err == nil {
		d.moveCursor(v, false)
	}
	return Input{v.index, data}, len(data) > 0, err
}

// handle runs the handler, and drains the inbox meanwhile. cause says why the handler was
// stopped, if it was.
func (d *delivery) handle(parent context.Context, in Input) (cause, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	if t := d.spec.Timeout; t > 0 {
		timeout, stop := context.WithTimeoutCause(ctx, t, errTimeout)
		defer stop()
		ctx = timeout
	}
	done := make(chan error, 1)
	go func() { done <- d.handler.Handle(ctx, in) }()
	for {
		select {
		case err := <-done:
			return context.Cause(ctx), err
		case <-d.wake:
			d.drain()
			d.publish(StateRunning)
			if d.spec.Overlap == OverlapKill && !d.once && len(d.pending.updates) > 0 {
				cancel(errSuperseded)
			}
		}
	}
}

// failed retries an update later, or gives it up.
func (d *delivery) failed(v update, in Input, err error) {
	d.failures++
	if n := d.spec.Attempts; n > 0 && d.failures >= n {
		d.log.Error("watch handler failed, giving this change up", "error", err, "attempts", d.failures, "index", v.index)
		if err := d.writeDeadLetter(v, in, err); err != nil {
			d.log.Error("a dead letter is lost", "error", err)
		}
		d.failures = 0
		d.moveCursor(v, false)
		d.mu.Lock()
		d.status.GivenUp++
		d.mu.Unlock()
		return
	}
	if !d.pending.putBack(v) {
		d.log.Warn("watch handler failed, there is something newer already", "error", err, "index", v.index)
		d.failures = 0
		return
	}
	delay := retry.Exponential(firstBackoff, maxBackoff, d.failures-1)
	d.retryAt = time.Now().Add(delay)
	d.log.Warn("watch handler failed, trying again", "error", err, "index", v.index, "retry_in", delay)
}

// moveCursor notes that an update is delivered; acks means that its events are to be acknowledged.
func (d *delivery) moveCursor(v update, acks bool) {
	now := &delivered{Watch: d.id, Index: v.index, Hash: hashOf(v.body()), Since: d.cursor.position(), Unacked: d.cursor.unacked()}
	if d.spec.Durable {
		for _, it := range v.items {
			now.Since = max(now.Since, it.at)
			if acks {
				now.Unacked = append(now.Unacked[:len(now.Unacked):len(now.Unacked)], it.Key)
			}
		}
		now.Unacked = now.Unacked[max(0, len(now.Unacked)-api.MaxDurableEvents):]
	} else if d.spec.Type == typeEvent {
		now.Events = d.cursor.events()
		for _, it := range v.items {
			now.Events = append(now.Events[:len(now.Events):len(now.Events)], it.Key)
		}
		now.Events = now.Events[max(0, len(now.Events)-maxKnownEvents):]
	} else if d.spec.Changes {
		now.Items = v.items
	}
	if err := d.cursor.save(now); err != nil {
		d.log.Error("cannot remember what was delivered: a restart may deliver it again", "error", err)
	}
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
