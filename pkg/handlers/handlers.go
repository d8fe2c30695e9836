// Package handlers runs handlers for changes of watched data: a program that gets
// the new state on its standard input, an HTTP endpoint, a stream of JSON lines.
// The watch tool and the agent's watches use it. Package watch follows the data.
//
// What it promises, for each watch:
//
//   - A handler runs only if the data differ from the last delivery. A restart, a
//     reload, a reconnect or a new index alone does not run it. A cursor on disk says
//     what was delivered last, unless Spec.Initial says that it does not matter.
//   - Delivery is at least once: a change is delivered when the handler has succeeded.
//     Until then it is retried after 1, 2 ... 60 s, or replaced by a newer state where
//     states are not queued. Only the watch's limit of attempts ends the retries. Events
//     are not dropped, up to the number that an agent keeps.
//   - Of each watch one handler runs at a time, below a guard (package proc): after a
//     stop or kill -9 of this process none of its processes is left.
//   - The input of a handler has the form of the reference's handlers.
package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"syscall"

	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/watch"
)

// MaxWatches bounds the watches of one Set.
const MaxWatches = 1024

// Config configures a Set. Client and Logger are required.
type Config struct {
	// Client makes the client for watches with this token; "" is no token of their own.
	Client      func(token string) (Client, error)
	Retry       watch.Retry
	Address     string // of the agent, a part of the name of a watch's cursor
	Dir         string // of cursors; "": they are not stored
	DirOptional bool   // an unusable Dir is logged, and not used
	Logger      *slog.Logger

	Handler     Handler          // of watches without one of their own
	DisplayOnly bool             // Handler only shows events: do not acknowledge them
	Env         []string         // of programs; CONSUL_INDEX is added
	Capture     bool             // log the programs' output
	Signals     <-chan os.Signal // are passed to running programs

	Once    bool   // each watch ends after one attempt to deliver
	Isolate bool   // a watch that cannot run is logged, and the others go on
	OnReady func() // called when all watches are followed
}

// Set runs many watches. Its methods are safe for concurrent use.
type Set struct {
	cfg Config

	failed chan error    // capacity 1: the first error that ends Run
	done   chan struct{} // closed when every watch has ended, with Once
	guards *proc.Pool    // of the programs

	mu      sync.Mutex
	ctx     context.Context // nil until Run
	wg      sync.WaitGroup
	specs   []Spec
	workers map[string]*worker // by identity
	engines map[source]*engine
}

// worker is a delivery and the goroutine that runs it.
type worker struct {
	spec     Spec
	delivery *delivery
	stop     context.CancelFunc
	ended    chan struct{}
}

// maxGuards is how many guards are kept for the next program.
const maxGuards = 4

// New makes a Set of checked watches. Nothing runs before Run.
func New(cfg Config, specs []Spec) *Set {
	return &Set{
		cfg: cfg, specs: specs, workers: map[string]*worker{}, engines: map[source]*engine{},
		failed: make(chan error, 1), done: make(chan struct{}), guards: &proc.Pool{Max: maxGuards},
	}
}

// Check returns an error if a watch could never be delivered: its handler does not exist,
// or cannot be executed. It starts nothing.
func (s *Set) Check() error {
	for _, spec := range s.specs {
		words := spec.Args
		if spec.Handler != "" {
			words = []string{spec.Handler}
		}
		if spec.HTTP != nil || len(words) == 0 {
			continue
		}
		if err := proc.Check(words, spec.Shell); err != nil {
			return fmt.Errorf("watch %s: %w", spec.String(), err)
		}
	}
	return nil
}

// Run delivers until ctx ends, with Once until every watch has made its attempt. It can
// run once.
func (s *Set) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.guards.Close()
	defer s.wg.Wait()
	defer cancel()
	s.mu.Lock()
	s.ctx = ctx
	if s.cfg.Dir != "" {
		var runs []identity
		for _, spec := range s.specs {
			runs = append(runs, spec.identity(s.cfg.Address))
		}
		removeUnused(s.cfg.Dir, runs, s.cfg.Logger)
	}
	err := s.apply(s.specs)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if s.cfg.OnReady != nil {
		s.cfg.OnReady()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failed:
			return err
		case <-s.done:
			select {
			case err := <-s.failed:
				return err
			default:
				return nil
			}
		case sig := <-s.cfg.Signals:
			s.signal(sig)
		}
	}
}

// Replace replaces the watches. Those that are the same before and after go on
// undisturbed. An error changes nothing.
func (s *Set) Replace(specs []Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.specs = specs
		return nil
	}
	return s.apply(specs)
}

// apply starts and stops the watches that differ. Callers hold mu.
func (s *Set) apply(specs []Spec) error {
	next := map[string]*worker{}
	for _, spec := range specs {
		id := spec.identity(s.cfg.Address)
		key := string(id.bytes())
		if next[key] != nil {
			s.cfg.Logger.Warn("a watch is there twice, it is delivered once", "watch", spec.String())
			continue
		}
		if now := s.workers[key]; now != nil && reflect.DeepEqual(now.spec, spec) {
			next[key] = now
			continue
		}
		w, err := s.worker(spec, id)
		if err != nil {
			return fmt.Errorf("watch %s: %w", spec.String(), err)
		}
		next[key] = w
	}
	if err := s.prepare(next); err != nil {
		return err
	}
	before := s.workers
	s.workers = next
	for key, w := range before {
		if next[key] != w {
			w.stop()
		}
	}
	for key, w := range next {
		if old := before[key]; old != w {
			s.start(w, old)
		}
	}
	s.follow()
	return nil
}

// worker makes one; it is started by start.
func (s *Set) worker(spec Spec, id identity) (*worker, error) {
	log := s.cfg.Logger.With("watch", spec.String())
	h, err := s.handler(&spec, log)
	if err != nil {
		return nil, err
	}
	d := &delivery{spec: spec, id: id, dir: s.cfg.Dir, dirOptional: s.cfg.DirOptional, handler: h, once: s.cfg.Once, log: log, wake: make(chan struct{}, 1)}
	if spec.Durable {
		if !s.cfg.DisplayOnly || spec.CheckHandler() == nil {
			if d.ack, err = s.cfg.Client(spec.Token); err != nil {
				return nil, err
			}
		}
		d.onSince = s.refollow
		if d.hasFile() {
			d.since.Store(lastPosition(s.cfg.Dir, id))
		}
	}
	return &worker{spec: spec, delivery: d, ended: make(chan struct{})}, nil
}

func (s *Set) handler(spec *Spec, log *slog.Logger) (Handler, error) {
	switch {
	case spec.HTTP != nil:
		return newHTTPHandler(spec.HTTP), nil
	case len(spec.Args) == 0 && spec.Handler == "":
		if s.cfg.Handler == nil {
			return nil, errors.New("Must define a watch handler")
		}
		return s.cfg.Handler, nil
	}
	words, shell := spec.Args, spec.Shell
	if spec.Handler != "" {
		words = []string{spec.Handler}
	}
	argv, notice, err := proc.Resolve(words, shell)
	if err != nil {
		return nil, err
	}
	if notice != "" {
		log.Info(notice)
	}
	if err := proc.Runnable(argv[0]); err != nil && !s.cfg.Isolate { // with Isolate it may be installed later
		return nil, err
	}
	h := &script{argv: argv, env: s.cfg.Env, killTimeout: spec.KillTimeout, guards: s.guards}
	s.guards.Warm() // it starts while we ask for the data
	if h.killTimeout == 0 {
		h.killTimeout = defaultKillTimeout
	}
	if s.cfg.Capture {
		h.capture = log
	}
	return h, nil
}

// start starts a worker after the one before with the same identity has ended. Callers
// hold mu.
func (s *Set) start(w, before *worker) {
	ctx, stop := context.WithCancel(s.ctx)
	w.stop = stop
	s.wg.Go(func() {
		defer stop()
		if before != nil {
			<-before.ended
		}
		err := w.delivery.run(ctx)
		close(w.ended)
		s.ended(w, err)
	})
}

// ended notes that a worker has ended by itself.
func (s *Set) ended(w *worker, err error) {
	if err != nil && s.cfg.Isolate {
		w.delivery.log.Error("this watch does not run", "error", err)
		return
	}
	if err != nil {
		s.fail(err)
	}
	if !s.cfg.Once {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.workers {
		select {
		case <-other.ended:
		default:
			return
		}
	}
	select {
	case <-s.done:
	default:
		close(s.done)
	}
}

// refollow updates the requests of the engines: that of a watch has changed.
func (s *Set) refollow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.follow()
	}
}

func (s *Set) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

func (s *Set) signal(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		if h, is := w.delivery.handler.(*script); is && ok {
			h.signal(number)
		}
	}
}
