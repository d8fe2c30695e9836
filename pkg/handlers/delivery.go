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
	"github.com/muster-dev/muster/pkg/watch"
)

// delivery brings the views of one watch to its handler. What mu guards apart, all
// that changes belongs to the goroutine in run.
//
//	                    due              exit 0
//	waiting <--------> (settled) ---> running ---------> waiting, remembered
//	   ^                                 |
//	   |  backoff, or something newer    | any other end
//	   +---------------------------------+
type delivery struct {
	spec    Spec
	id      identity
	dir     string // of memories; "" is none
	may     bool   // where nothing can be remembered there the watch runs without
	handler Handler
	once    bool // end after the first delivery, of which there is one attempt
	log     *slog.Logger

	ack interface { // nil: nobody is told of what was delivered
		EventAck(ctx context.Context, id, node string, o *client.Options) error
	}
	moved func()        // called when since is another; nil: nobody asks
	since atomic.Uint64 // of durable events, for query

	wake chan struct{} // capacity 1: there is something in inbox
	mu   sync.Mutex
	in   []view // inbox
	now  WatchStatus

	mem      *memory
	daily    <-chan time.Time // time to say that the memory is in use
	pend     pending
	pace     watch.Pace
	running  view      // what the handler has got
	begun    bool      // the first view was looked at
	force    bool      // the first view is delivered although it is known
	oldest   time.Time // when the oldest of what waits arrived
	newest   time.Time
	failures int // of the view that is next, in a row
	retryAt  time.Time

	delivered   int       // durable events since the last advance
	ackAt       time.Time // when acknowledging is tried again; zero: nothing is to be
	ackFailures int
}

// The delay before a failed delivery is tried again; it doubles.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// put hands a view over; it does not wait.
func (d *delivery) put(v view) {
	d.mu.Lock()
	d.in = append(d.in, v)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// remembers says whether the start depends on what was delivered before.
func (d *delivery) remembers() bool {
	return d.dir != "" && (d.spec.Initial == "" || d.spec.Initial == InitialIfChanged)
}

// run delivers until ctx ends. An error says that nothing can be delivered at all,
// or, with once, why the one attempt failed.
func (d *delivery) run(ctx context.Context) error {
	dir := d.dir
	if !d.remembers() {
		dir = ""
	}
	mem, err := openMemory(dir, d.id, d.spec.KeepValues)
	if d.may && errors.Is(err, errNoMemory) {
		d.log.Warn("nothing is remembered: the next start delivers again, and a second process is not noticed; -state-dir names another place", "error", err)
		mem, err = &memory{}, nil
	}
	if err != nil {
		return err
	}
	defer mem.close()
	d.mem = mem
	daily := time.NewTicker(touchEvery)
	defer daily.Stop()
	d.daily = daily.C
	d.pend = pending{overlap: d.spec.Overlap, events: d.spec.Type == typeEvent}
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

// next waits for what is due; false: there is nothing more to do.
func (d *delivery) next(ctx context.Context) (view, bool) {
	for {
		d.drain()
		var due, acks <-chan time.Time
		if !d.ackAt.IsZero() {
			acks = time.After(time.Until(d.ackAt))
		}
		if len(d.pend.views) > 0 {
			wait := time.Until(d.dueAt())
			if wait <= 0 {
				d.oldest = time.Time{}
				return d.pend.take(), true
			}
			due = time.After(wait)
		} else if d.once && d.begun {
			return view{}, false
		}
		if d.begun {
			d.publish(StateIdle)
		}
		select {
		case <-d.wake:
		case <-due:
		case <-acks:
			d.acknowledge(ctx)
		case <-d.daily:
			d.mem.touch()
		case <-ctx.Done():
			return view{}, false
		}
	}
}

// dueAt is when what waits is delivered.
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

// drain takes in what has arrived.
func (d *delivery) drain() {
	d.mu.Lock()
	arrived := d.in
	d.in = nil
	d.mu.Unlock()
	for _, v := range arrived {
		v, news := d.sift(v)
		d.begun = true
		if !news {
			continue
		}
		if lost := d.pend.add(v); lost > 0 {
			d.log.Error("too much waits for a watch handler: left out the oldest", "lost", lost)
		}
		d.newest = time.Now()
		if d.oldest.IsZero() {
			d.oldest = d.newest
		}
		if d.spec.Overlap != OverlapQueue {
			d.retryAt = time.Time{} // something newer may do
			if !d.pend.events {
				d.failures = 0
			}
		}
	}
}

// sift leaves of a view what is to be delivered; false: nothing.
func (d *delivery) sift(v view) (view, bool) {
	first, initial := !d.begun, d.spec.Initial
	if d.spec.Durable && len(v.items) > 0 {
		v.index = v.items[len(v.items)-1].at
	}
	switch {
	case first && initial == InitialNever:
		d.remember(v, false)
		return v, false
	case first && initial == InitialAlways:
		d.force = true
		return v, true
	case d.spec.Type != typeEvent, first && d.mem.last == nil && !d.spec.Durable:
		return v, true
	}
	v.items = slices.DeleteFunc(slices.Clone(v.items), func(it item) bool {
		return slices.Contains(d.mem.events(), it.Key) || d.spec.Durable && it.at <= d.mem.position() || d.running.has(it.Key) || d.pend.has(it.Key)
	})
	return v, len(v.items) > 0
}

// deliver runs the handler on a view and draws the conclusions.
func (d *delivery) deliver(ctx context.Context, v view) error {
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
	d.running = view{}
	d.ran(v, err)
	switch {
	case err == nil:
		d.failures = 0
		d.remember(v, d.ack != nil)
		d.acknowledge(ctx)
		d.advance(len(v.items))
	case ctx.Err() != nil: // the next start delivers it
	case errors.Is(cause, errSuperseded):
		d.pend.again(v)
	case d.once:
	default:
		d.failed(v, in, err)
	}
	return err
}

// input is what the handler is to get; false: nothing, because that is known.
func (d *delivery) input(v view) (Input, bool, error) {
	body := v.body()
	last := d.mem.last
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
		d.remember(v, false)
	}
	return Input{v.index, data}, len(data) > 0, err
}

// handle runs the handler, and meanwhile takes in what arrives. cause is why we
// ended it, if we did.
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
			if d.spec.Overlap == OverlapKill && !d.once && len(d.pend.views) > 0 {
				cancel(errSuperseded)
			}
		}
	}
}

// failed decides what becomes of a view that its handler did not take.
func (d *delivery) failed(v view, in Input, err error) {
	d.failures++
	if n := d.spec.Attempts; n > 0 && d.failures >= n {
		d.log.Error("watch handler failed, giving this change up", "error", err, "attempts", d.failures, "index", v.index)
		if err := d.bury(v, in, err); err != nil {
			d.log.Error("a dead letter is lost", "error", err)
		}
		d.failures = 0
		d.remember(v, false)
		d.mu.Lock()
		d.now.GivenUp++
		d.mu.Unlock()
		return
	}
	if !d.pend.again(v) {
		d.log.Warn("watch handler failed, there is something newer already", "error", err, "index", v.index)
		d.failures = 0
		return
	}
	delay := min(lastRetry, firstRetry<<min(d.failures-1, 16))
	d.retryAt = time.Now().Add(delay)
	d.log.Warn("watch handler failed, trying again", "error", err, "index", v.index, "retry_in", delay)
}

// remember notes that a view is delivered, and whether its events are to be acknowledged.
func (d *delivery) remember(v view, acks bool) {
	now := &delivered{Watch: d.id, Index: v.index, Hash: hashOf(v.body()), Since: d.mem.position(), Unacked: d.mem.unacked()}
	if d.spec.Durable {
		for _, it := range v.items {
			now.Since = max(now.Since, it.at)
			if acks {
				now.Unacked = append(now.Unacked[:len(now.Unacked):len(now.Unacked)], it.Key)
			}
		}
		now.Unacked = now.Unacked[max(0, len(now.Unacked)-api.MaxDurableEvents):]
	} else if d.spec.Type == typeEvent {
		now.Events = d.mem.events()
		for _, it := range v.items {
			now.Events = append(now.Events[:len(now.Events):len(now.Events)], it.Key)
		}
		now.Events = now.Events[max(0, len(now.Events)-maxKnownEvents):]
	} else if d.spec.Changes {
		now.Items = v.items
	}
	if err := d.mem.keep(now); err != nil {
		d.log.Error("cannot remember what was delivered: a restart may deliver it again", "error", err)
	}
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
