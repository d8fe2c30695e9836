package lock

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

// The phases of a TTL, counted from the sending of the last confirmed renewal.
func renewAfter(ttl time.Duration) time.Duration   { return ttl / 3 }
func lostAfter(ttl time.Duration) time.Duration    { return ttl * 2 / 3 }
func killAfterTTL(ttl time.Duration) time.Duration { return ttl - max(500*time.Millisecond, ttl/10) }

// session is the session that holds the lock.
type session struct {
	id  string
	ttl time.Duration // 0: it has none
	api *client.Client
	log *slog.Logger

	mu        sync.Mutex
	renewedAt instant             // when the last confirmed renewal was sent
	onRenew   func(proc.Deadline) // called after each renewal; may be nil
}

// instant is a time by two clocks: Go's, which timers follow, and the boot clock, which
// also counts while the machine sleeps, as the server's clock does.
type instant struct {
	mono time.Time
	boot time.Duration
}

func now() instant { return instant{time.Now(), proc.BootTime()} }

// since is the time that has passed, by the clock that advanced more.
func (i instant) since() time.Duration { return max(time.Since(i.mono), proc.BootTime()-i.boot) }

// open creates a session.
func (l *Lock) open(ctx context.Context) (*session, error) {
	create := api.SessionCreate{
		Name:       l.cfg.Name,
		LockDelay:  (*api.Duration)(&l.cfg.Delay),
		Behavior:   l.kind.behavior(),
		NodeChecks: []string{},
	}
	if l.cfg.TTL > 0 {
		create.TTL = l.cfg.TTL.String()
	}
	s := &session{ttl: l.cfg.TTL, api: l.cfg.Client, log: l.log}
	err := l.retry(ctx, "create a session", func() (err error) {
		s.renewedAt = now()
		s.id, err = l.cfg.Client.SessionCreate(ctx, create, nil)
		return err
	})
	return s, err
}

// keep renews the session until ctx ends. It returns ErrLost when the session has ended
// or was not renewed for too long.
func (s *session) keep(ctx context.Context) error {
	if s.ttl == 0 {
		return nil
	}
	failures := 0
	for wait := s.untilRenewal(); ; {
		if retry.Sleep(ctx, wait) != nil {
			return nil
		}
		if err := s.expired(); err != nil {
			return err
		}
		left := lostAfter(s.ttl) - s.last().since()
		sent := now()
		gone, err := s.renew(ctx, min(left, max(time.Second, s.ttl/6)))
		switch {
		case ctx.Err() != nil:
			return nil
		case gone:
			return fmt.Errorf("%w: session %s has ended", ErrLost, s.id)
		case err != nil:
			if failures++; failures == 1 {
				s.log.Warn("the session could not be renewed; trying again", "error", err)
			}
			left = lostAfter(s.ttl) - s.last().since()
			wait = max(0, min(left, time.Duration(min(failures, 5))*s.ttl/75)) // 200 ms to 1 s of 15 s
			continue
		case failures > 0:
			failures = 0
			s.log.Info("the session is renewed again")
		}
		s.confirm(sent)
		wait = s.untilRenewal()
	}
}

// expired is ErrLost once the session was not renewed for so long that its locks count
// as lost.
func (s *session) expired() error {
	since := s.last().since()
	if s.ttl == 0 || since < lostAfter(s.ttl) {
		return nil
	}
	return fmt.Errorf("%w: the session was not renewed for %v of its TTL of %v", ErrLost, since.Round(time.Millisecond), s.ttl)
}

// renew sends one renewal. gone means that a consistent read says so too.
func (s *session) renew(ctx context.Context, limit time.Duration) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	renewed, err := s.api.SessionRenew(ctx, s.id, nil)
	if err != nil || renewed != nil {
		return false, err
	}
	found, _, err := s.api.SessionInfo(ctx, s.id, &client.Options{Consistent: true})
	if err == nil && found != nil {
		err = fmt.Errorf("session %s was not found and then found", s.id)
	}
	return err == nil, err
}

func (s *session) last() instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewedAt
}

func (s *session) untilRenewal() time.Duration {
	return max(0, renewAfter(s.ttl)-s.last().since())
}

func (s *session) confirm(sent instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewedAt = sent
	if s.onRenew != nil {
		s.onRenew(s.deadline())
	}
}

// setOnRenew calls f with the deadline, now and after each renewal.
func (s *session) setOnRenew(f func(proc.Deadline)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRenew = f
	if f != nil {
		f(s.deadline())
	}
}

// deadline is called with mu held.
func (s *session) deadline() proc.Deadline {
	if s.ttl == 0 {
		return proc.Deadline{}
	}
	return proc.Deadline{Term: s.renewedAt.boot + lostAfter(s.ttl), Kill: s.renewedAt.boot + killAfterTTL(s.ttl)}
}
