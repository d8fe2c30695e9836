package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// The reference's exec tool starts a job with an event. The job is in a key that
// its session holds, and nodes answer in keys that they acquire with that session:
//
//	PREFIX/SESSION/job             what to run
//	PREFIX/SESSION/NODE/ack        the node begins
//	PREFIX/SESSION/NODE/out/00000  output, in order; an empty one is a heartbeat
//	PREFIX/SESSION/NODE/exit       its exit code
//
// This lets anybody who can write keys and fire events run anything. So a node
// follows it only if remote execution is on and has neither named jobs nor keys.
const (
	consulChunk = 4096
	// consulFlush is how long output is gathered before it is written.
	consulFlush = 500 * time.Millisecond
	// consulNotStarted is the exit code of a command that could not be started.
	consulNotStarted = 255
	// maxConsulQueue limits the events that wait.
	maxConsulQueue = 64
)

// consulJob is the value of the key job.
type consulJob struct {
	Command string
	Args    []string
	Script  []byte
	Wait    time.Duration
}

// HandleEvent queues an event of the reference's exec tool. It does not wait; an
// event that finds the queue full is dropped.
func (r *Runner) HandleEvent(e api.Event) {
	select {
	case r.events <- e:
	default:
		r.cfg.Logger.Warn("an order by event is dropped: too many wait")
	}
}

func (r *Runner) serveConsul(ctx context.Context) {
	for {
		select {
		case e := <-r.events:
			if p := r.policy.Load(); !p.Enabled || len(p.Keys) > 0 || len(p.Jobs) > 0 {
				r.cfg.Logger.Warn("remote execution by event refused: it is off, or narrowed to named jobs or signed orders", "event", e.ID)
				continue
			}
			r.work.Go(func() {
				if err := r.runEvent(ctx, e); err != nil {
					r.cfg.Logger.Warn("remote execution by event failed", "event", e.ID, "error", err)
				}
			})
		case <-ctx.Done():
			return
		}
	}
}

// answerKeys writes the keys in which this node answers.
type answerKeys struct {
	client  *client.Client
	session string
	dir     string
}

func (k answerKeys) put(ctx context.Context, key string, value []byte) error {
	ok, err := k.client.KVPut(ctx, k.dir+key, value, client.KVWrite{Acquire: k.session}, nil)
	if err == nil && !ok {
		err = errors.New("the session does not hold it")
	}
	if err != nil {
		return fmt.Errorf("write key %s: %w", k.dir+key, err)
	}
	return nil
}

// runEvent runs the job that an event names.
func (r *Runner) runEvent(ctx context.Context, e api.Event) error {
	var where struct{ Prefix, Session string }
	if err := json.Unmarshal(e.Payload, &where); err != nil || where.Prefix == "" || where.Session == "" {
		return fmt.Errorf("read the event's payload %q: %w", e.Payload, errors.Join(err, errors.New("it names no job")))
	}
	job, err := r.readConsulJob(ctx, where.Prefix+"/"+where.Session+"/job")
	if err != nil {
		return err
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	k := answerKeys{r.cfg.Client, where.Session, where.Prefix + "/" + where.Session + "/" + r.cfg.Node + "/"}
	if err := k.put(ctx, "ack", nil); err != nil {
		return err
	}
	p := &plan{order: &api.ExecOrder{ID: where.Session}, argv: job.Args, script: job.Script}
	if job.Command != "" {
		p.argv = []string{"sh", "-c", job.Command}
	}
	r.cfg.Logger.Info("remote execution by event begins", "session", where.Session, "command", p.argv, "script_bytes", len(p.script))
	n := &run{job: where.Session, resend: make(chan struct{}, 1)}
	n.ctx, n.stop = context.WithCancel(ctx)
	defer n.stop()
	sent := make(chan struct{})
	n.send = func(running context.Context) {
		defer close(sent)
		r.sendKeys(ctx, n, k, max(job.Wait, time.Second), running)
	}
	var result api.ExecResult
	r.execute(n, p, &result)
	if result.Code == codeNotStarted && result.Error != "" {
		result.Code = consulNotStarted
		_ = k.put(ctx, "out/00000", []byte(result.Error)) // the exit code says it, too
	} else {
		<-sent
	}
	if n.spool != nil {
		n.spool.close()
	}
	return k.put(ctx, "exit", []byte(strconv.Itoa(result.Code)))
}

// readConsulJob reads the job from any server, and from the leader if that server
// does not have it yet.
func (r *Runner) readConsulJob(ctx context.Context, key string) (*consulJob, error) {
	for _, o := range []*client.Options{{Stale: true}, {Consistent: true}} {
		pair, _, err := r.cfg.Client.KVGet(ctx, key, o)
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", key, err)
		}
		if pair == nil {
			continue
		}
		var job consulJob
		if err := json.Unmarshal(pair.Value, &job); err != nil {
			return nil, fmt.Errorf("read the job in key %s: %w", key, err)
		}
		if job.Command == "" && len(job.Args) == 0 && len(job.Script) == 0 {
			return nil, fmt.Errorf("the job in key %s has nothing to run", key)
		}
		return &job, nil
	}
	return nil, fmt.Errorf("there is no job in key %s", key)
}

// sendKeys writes a run's output until running has ended and all is written. It
// skips what cannot be written, so that the exit code is still sent.
func (r *Runner) sendKeys(ctx context.Context, n *run, k answerKeys, wait time.Duration, running context.Context) {
	var next uint64
	var pending []byte
	count := 0
	write := func(data []byte) {
		if err := k.put(ctx, fmt.Sprintf("out/%05x", count), data); err != nil {
			r.cfg.Logger.Warn("output is left out", "error", err)
		}
		count++
	}
	flush := func(atLeast int) {
		for len(pending) >= atLeast && len(pending) > 0 {
			size := min(len(pending), consulChunk)
			write(pending[:size])
			pending = pending[size:]
		}
	}
	for {
		ended := false
		timer := time.NewTimer(wait)
		if len(pending) > 0 {
			timer.Reset(consulFlush)
		}
		select {
		case <-n.spool.changed:
		case <-timer.C:
			if len(pending) == 0 {
				write(nil)
			}
			flush(1)
		case <-running.Done():
			ended = true
		}
		timer.Stop()
		for {
			chunks, err := n.spool.read(next, maxPush)
			if err != nil || len(chunks) == 0 {
				break
			}
			for _, c := range chunks {
				pending = append(pending, c.Data...)
			}
			next += uint64(len(chunks))
			flush(consulChunk)
		}
		if ended {
			flush(1)
			return
		}
	}
}
