package lock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func newLock(t *testing.T, f *fake, change ...func(*Config)) *Lock {
	t.Helper()
	cfg := Config{Client: f.client(t), Prefix: "deploy/", Delay: DefaultDelay}
	for _, c := range change {
		c(&cfg)
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// hold is work that ends some time after its context.
func hold(after time.Duration) func(context.Context, *Held) error {
	return func(ctx context.Context, _ *Held) error {
		<-ctx.Done()
		time.Sleep(after)
		return nil
	}
}

// near reports whether got is not late, and early by at most what the machine's clock,
// which no bubble stops, may have advanced.
func near(got, want time.Duration) bool { return got <= want && got > want-500*time.Millisecond }

func TestHoldsForAsLongAsItIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		began := time.Now()
		err := newLock(t, f).Do(t.Context(), func(ctx context.Context, h *Held) error {
			time.Sleep(time.Hour)
			if f.pair.Session != h.Session() || h.Token() != f.pair.ModifyIndex {
				t.Errorf("held by %q at %d", f.pair.Session, f.pair.ModifyIndex)
			}
			return ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		last := began
		for i, at := range f.renewals {
			if !near(at.Sub(last), renewAfter(DefaultTTL)) {
				t.Fatalf("renewal %d after %v", i, at.Sub(last))
			}
			last = at
		}
		if len(f.sessions) != 0 || f.pair != nil {
			t.Errorf("left behind: %v, %v", f.sessions, f.pair)
		}
	})
}

// When the agent stops answering, the lock counts as lost when two thirds of the TTL
// have passed since the last renewal, before the session can end.
func TestLossIsDeclaredByTime(t *testing.T) {
	for _, ttl := range []time.Duration{10 * time.Second, 15 * time.Second, time.Minute} {
		for _, downAfter := range []time.Duration{0, ttl / 4, ttl/3 + time.Second, 2 * ttl} {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				began := time.Now()
				time.AfterFunc(downAfter+time.Millisecond, func() { f.setDown(true) })
				var lostAt time.Time
				err := newLock(t, f, func(c *Config) { c.TTL = ttl }).Do(t.Context(), func(ctx context.Context, _ *Held) error {
					<-ctx.Done()
					lostAt = time.Now()
					if !errors.Is(context.Cause(ctx), ErrLost) {
						t.Errorf("cause %v", context.Cause(ctx))
					}
					return nil
				})
				if !errors.Is(err, ErrLost) {
					t.Fatalf("error %v", err)
				}
				last := began
				if n := len(f.renewals); n > 0 {
					last = f.renewals[n-1]
				}
				if got := lostAt.Sub(last); !near(got, lostAfter(ttl)) {
					t.Errorf("TTL %v, down after %v: lost after %v, want %v", ttl, downAfter, got, lostAfter(ttl))
				}
				if kill := last.Add(killAfterTTL(ttl)); !kill.Before(last.Add(ttl)) || kill.Before(lostAt) {
					t.Errorf("TTL %v: killed at %v", ttl, kill.Sub(last))
				}
			})
		}
	}
}

// A short outage loses nothing.
func TestShortOutageLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for i := range 5 {
			at := time.Duration(i) * 20 * time.Second
			time.AfterFunc(at, func() { f.setDown(true) })
			time.AfterFunc(at+4*time.Second, func() { f.setDown(false) })
		}
		f.setDown(false)
		err := newLock(t, f).Do(t.Context(), func(ctx context.Context, _ *Held) error {
			select {
			case <-time.After(3 * time.Minute):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A slow answer does not extend the deadline.
func TestTimeCountsFromTheSendingOfARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var sent, lostAt time.Time
		err := newLock(t, f).Do(t.Context(), func(ctx context.Context, _ *Held) error {
			f.mu.Lock()
			f.slow = 2 * time.Second
			f.mu.Unlock()
			time.Sleep(17 * time.Second)
			f.setDown(true)
			f.mu.Lock()
			sent = f.renewals[len(f.renewals)-1]
			f.mu.Unlock()
			<-ctx.Done()
			lostAt = time.Now()
			return nil
		})
		if !errors.Is(err, ErrLost) || !near(lostAt.Sub(sent), lostAfter(DefaultTTL)) {
			t.Errorf("lost %v after the sending, %v", lostAt.Sub(sent), err)
		}
	})
}

func TestBrokenLockIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		err := newLock(t, f).Do(t.Context(), func(ctx context.Context, h *Held) error {
			time.Sleep(7 * time.Second)
			began := time.Now()
			f.mu.Lock()
			f.destroy(h.Session())
			f.mu.Unlock()
			<-ctx.Done()
			if d := time.Since(began); d != 0 {
				t.Errorf("noticed after %v", d)
			}
			return nil
		})
		if !errors.Is(err, ErrLost) {
			t.Error(err)
		}
	})
}

// A waiter gets the lock after the TTL and the lock-delay of a holder that vanished,
// and at most one pause between two attempts.
func TestWaiterAcquiresAfterTheLockDelay(t *testing.T) {
	for _, delay := range []time.Duration{0, 3 * time.Second, DefaultDelay} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			began := time.Now()
			f.sessions["gone"] = &fakeSession{ttl: 10 * time.Second, delay: delay, ends: began.Add(10 * time.Second)}
			time.AfterFunc(10*time.Second, func() { f.mu.Lock(); f.expire(); f.mu.Unlock() })
			f.pair = nil
			f.answerLock("gone")
			err := newLock(t, f).Do(t.Context(), func(context.Context, *Held) error {
				if late := time.Since(began) - 10*time.Second - delay; late < 0 || late > maxDelayBackoff {
					t.Errorf("lock-delay %v: acquired %v after it", delay, late)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (f *fake) answerLock(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	f.pair = &api.KVPair{Key: "deploy/.lock", Flags: lockFlags, Session: id, ModifyIndex: f.index}
}

// A session that ends while its owner waits is replaced.
func TestWaiterReplacesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.sessions["other"] = &fakeSession{}
		f.answerLock("other")
		time.AfterFunc(time.Minute, func() { f.setDown(true) })
		time.AfterFunc(2*time.Minute, func() { f.setDown(false) })
		time.AfterFunc(3*time.Minute, func() { f.mu.Lock(); f.destroy("other"); f.mu.Unlock() })
		began := time.Now()
		err := newLock(t, f).Do(t.Context(), func(context.Context, *Held) error {
			if d := time.Since(began); d < 3*time.Minute || d > 3*time.Minute+time.Second {
				t.Errorf("acquired after %v", d)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.sessions["other"] = &fakeSession{}
		f.answerLock("other")
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(cause) })
		began := time.Now()
		err := newLock(t, f).Do(ctx, func(context.Context, *Held) error { t.Error("acquired"); return nil })
		if !errors.Is(err, cause) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if len(f.sessions) != 1 {
			t.Errorf("sessions left: %v", f.sessions)
		}
	})
}

// The end of the caller's context ends the work, but not the session before the
// work has ended.
func TestWorkEndsUnderTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := newLock(t, f).Do(ctx, func(ctx context.Context, h *Held) error {
			_ = hold(time.Minute)(ctx, h)
			if f.pair == nil || f.pair.Session != h.Session() {
				t.Error("released too early")
			}
			return nil
		})
		if err != nil || f.pair != nil {
			t.Errorf("%v, %v", err, f.pair)
		}
	})
}

func TestSafeLockHasNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		err := newLock(t, f, func(c *Config) { c.Safe = true }).Do(t.Context(), func(ctx context.Context, h *Held) error {
			f.setDown(true)
			time.Sleep(time.Hour)
			f.setDown(false)
			if d := h.Deadline(); d.Kill != 0 || d.Term != 0 {
				t.Errorf("deadline %v", d)
			}
			return ctx.Err()
		})
		if err != nil || len(f.renewals) != 0 {
			t.Errorf("%v, %d renewals", err, len(f.renewals))
		}
	})
}

func TestParseOncePer(t *testing.T) {
	for in, want := range map[string]OncePer{
		"": {}, "5m": {Age: 5 * time.Minute}, "v1": {Value: "v1"}, "v1/24h": {Value: "v1", Age: 24 * time.Hour},
		"a/b": {Value: "a/b"}, "a/b/1h": {Value: "a/b", Age: time.Hour},
	} {
		if got, err := ParseOncePer(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"-1s", "0s", "v1/-2h"} {
		if got, err := ParseOncePer(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestCleanPrefix(t *testing.T) {
	for in, want := range map[string]string{"deploy/": "deploy", "/a//b/": "a/b", "a/../../b": "b", "x": "x"} {
		if got, err := cleanPrefix(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "/", "..", "a/.."} {
		if got, err := cleanPrefix(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestPrefixOf(t *testing.T) {
	for name, want := range map[string]string{
		SessionName("sh -c 'x' at 'y'", "deploy/"):     "deploy",
		"Consul lock for './migrate.sh' at '/deploy/'": "deploy",
		"something": "", "Lock for 'x' at ''": "",
	} {
		if got := prefixOf(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
