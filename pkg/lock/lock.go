// Package lock acquires locks and semaphore slots in the key/value store of an agent,
// and says for how long they are valid.
//
// A lock is a key that a session holds. The layout is that of Consul's tool, so
// both exclude each other: "deploy/" is the key deploy/.lock for a lock and, for
// a semaphore, that key with the list of holders and one key for each of them.
//
// Do acquires, runs a function, and releases. What it promises:
//
//   - The session has a TTL and no checks, so that only time ends it. It is
//     renewed every third of the TTL. When two thirds have passed since the
//     *sending* of the last confirmed renewal the lock counts as lost, whatever
//     reads say: the context of the work ends, and the work must end by
//     Held.Deadline's Kill. The session cannot have ended before that.
//   - A read that fails is no loss. A consistent read that says that another
//     session holds the key, or none, is a loss.
//   - The Token is the raft index of the acquisition. It grows with every
//     acquisition of the same lock, and "?fence=KEY:TOKEN" on a write makes the
//     agent refuse it once the lock is not held by that acquisition any more.
//   - A free lock is acquired within milliseconds, because a blocking query waits for
//     it; within half a second after a lock-delay.
//
// A safe lock (Config.Safe) has no TTL: only its release, or Break, ends it. Runner runs
// a command under a lock.
package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

const (
	// DefaultTTL and DefaultDelay are those of the reference.
	DefaultTTL   = 15 * time.Second
	DefaultDelay = 15 * time.Second

	// releaseTimeout is how long a release is tried; after that the TTL releases the lock.
	releaseTimeout = 5 * time.Second
)

var (
	// ErrLost says that the lock was lost during the work.
	ErrLost = errors.New("lock lost")
	// ErrConflict says that the key exists and is no such lock.
	ErrConflict = errors.New("key is in other use")
)

// Config says which lock, and how it is held.
type Config struct {
	Client *client.Client
	Prefix string        // "deploy/" is the key deploy/.lock
	Slots  int           // above 1: a semaphore that so many may hold at once
	Name   string        // of the session
	TTL    time.Duration // 0 is DefaultTTL; the agent refuses less than its session_ttl_min
	Safe   bool          // no TTL at all
	Delay  time.Duration // how long nobody gets the lock after its session ended unreleased
	Holder Holder        // is written into the key, for people
	Logger *slog.Logger  // nil logs nothing
}

// Lock is one lock, which can be held repeatedly, one hold at a time.
type Lock struct {
	cfg  Config
	kind kind
	log  *slog.Logger
}

// kind is a lock or a semaphore.
type kind interface {
	// acquire blocks until the session holds it, ctx ends, or a permanent error.
	acquire(ctx context.Context, s *session) (grant, error)
	// behavior is what happens to the held key when the session ends, see api.SessionCreate.
	behavior() string
	// release releases a grant; one that is not ours any more is no error.
	release(ctx context.Context, g grant) error
}

// grant is what was acquired: the key that our session holds, and the index of
// the write that gave it.
type grant struct {
	key   string
	sid   string // the session's id
	token uint64
}

// New checks the configuration. It sends nothing.
func New(cfg Config) (*Lock, error) {
	prefix, err := cleanPrefix(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	cfg.Prefix = prefix
	if cfg.TTL == 0 && !cfg.Safe {
		cfg.TTL = DefaultTTL
	}
	switch {
	case cfg.Slots < 0:
		return nil, fmt.Errorf("a lock with %d slots: it takes at least one", cfg.Slots)
	case cfg.TTL < 0 || cfg.Delay < 0:
		return nil, fmt.Errorf("a lock with TTL %v and delay %v: neither can be below zero", cfg.TTL, cfg.Delay)
	case cfg.Safe && cfg.TTL != 0:
		return nil, errors.New("a safe lock has no TTL")
	}
	l := &Lock{cfg: cfg, log: cfg.Logger}
	if l.log == nil {
		l.log = logx.Discard()
	}
	if cfg.Slots > 1 {
		l.kind = &semaphore{cfg: &l.cfg, log: l.log}
	} else {
		l.kind = &mutex{cfg: &l.cfg, log: l.log}
	}
	return l, nil
}

// cleanPrefix is a prefix without slashes at its ends and without "." and "..".
func cleanPrefix(prefix string) (string, error) {
	clean := strings.Trim(path.Clean("/"+prefix), "/")
	if clean == "" {
		return "", fmt.Errorf("lock prefix %q names nothing", prefix)
	}
	return clean, nil
}

// Key is the key that says who holds the lock.
func (l *Lock) Key() string { return lockKey(l.cfg.Prefix) }

// Do acquires the lock, runs work and releases the lock. It waits for the lock
// until ctx ends; then the error is ctx's cause. The context of work ends with
// ctx too and, with a cause that is ErrLost, when the lock is lost: then work has
// to have ended by Held.Deadline. Do returns ErrLost then, else what work
// returned. It retries all errors that are not permanent.
func (l *Lock) Do(ctx context.Context, work func(context.Context, *Held) error) error {
	for {
		err := l.doOnce(ctx, work)
		if !errors.Is(err, errSessionEnded) {
			return err
		}
	}
}

// errSessionEnded says that the session ended before the lock was acquired.
var errSessionEnded = errors.New("the session ended while waiting for the lock")

// doOnce is Do with one session.
func (l *Lock) doOnce(ctx context.Context, work func(context.Context, *Held) error) error {
	s, err := l.open(ctx)
	if err != nil {
		return err
	}
	// The session outlives ctx: the work ends under the lock.
	alive, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	defer all.Wait()
	defer end(nil)
	all.Go(func() {
		if err := s.keep(alive); err != nil {
			end(err)
		}
	})
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })()

	g, err := l.kind.acquire(both, s)
	if err != nil {
		l.end(s, grant{})
		if errors.Is(context.Cause(alive), ErrLost) && ctx.Err() == nil {
			return errSessionEnded
		}
		return err
	}
	all.Go(func() {
		if err := l.monitor(alive, g); err != nil {
			end(err)
		}
	})
	err = work(both, &Held{grant: g, session: s, cfg: &l.cfg})
	lost := context.Cause(alive)
	if lost == nil {
		lost = s.expired() // this process was stopped, and keep has not run since
	}
	l.end(s, g)
	if lost != nil {
		return lost
	}
	return err
}

// end releases the grant, if any, and destroys the session. If that fails within
// releaseTimeout, the session's TTL releases the lock.
func (l *Lock) end(s *session, g grant) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	var err error
	if g.key != "" {
		err = l.retry(ctx, "release "+g.key, func() error { return l.kind.release(ctx, g) })
	}
	err = errors.Join(err, l.retry(ctx, "destroy the session", func() error {
		return l.cfg.Client.SessionDestroy(ctx, s.id, nil)
	}))
	if err != nil {
		l.log.Warn("the lock stays until its session ends", "key", l.Key(), "session", s.id, "ttl", l.cfg.TTL, "error", err)
	}
}
