package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

// ward is a supervisor over children that only note what they are told.
type ward struct {
	*Bound
	signals chan os.Signal
	cancel  context.CancelFunc
	done    chan struct{}
	began   time.Time

	mu  sync.Mutex
	got []string // what has happened, with the second in which it did
	now *wardChild
}

type wardChild struct {
	w     *ward
	ended chan int
	slow  time.Duration // to stop
}

func (w *ward) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, fmt.Sprintf("%d:", time.Since(w.began)/time.Second)+fmt.Sprintf(format, args...))
}

func (w *ward) happened() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.got, " ")
}

func (c *wardChild) Pid() int { return 1 }

func (c *wardChild) Signal(sig syscall.Signal) error {
	c.w.note("%d", sig)
	return nil
}

func (c *wardChild) Pass(sig syscall.Signal) error { return c.Signal(sig) }

func (c *wardChild) Wait(context.Context) (int, error) { return <-c.ended, nil }

func (c *wardChild) Stop(sig syscall.Signal, killAfter time.Duration) (int, error) {
	c.w.note("stop(%d,%s)", sig, killAfter)
	time.Sleep(c.slow)
	c.ended <- 128 + int(sig)
	return 128 + int(sig), nil
}

func newWard(t *testing.T, spec Spec) *ward {
	spec.Command = []string{"server"}
	w := &ward{signals: make(chan os.Signal, 1), done: make(chan struct{}), began: time.Now()}
	w.Bound = NewBound(spec, Config{Signals: w.signals, Logger: slog.New(slog.DiscardHandler)})
	w.start = func() (child, error) {
		w.now = &wardChild{w: w, ended: make(chan int, 1)}
		w.note("start")
		return w.now, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	go func() { defer close(w.done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

func (w *ward) want(t *testing.T, want string) {
	t.Helper()
	if got := w.happened(); got != want {
		t.Fatalf("happened %q, want %q", got, want)
	}
}

func TestSuperviseStates(t *testing.T) {
	second := time.Second
	t.Run("restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{KillSignal: syscall.SIGTERM, KillTimeout: 3 * second})
			time.Sleep(second)
			w.want(t, "") // not before the first change
			w.Changed()
			w.want(t, "1:start")
			time.Sleep(second)
			w.Changed()
			w.want(t, "1:start 2:stop(15,3s) 2:start")
			w.cancel()
			<-w.done
			w.want(t, "1:start 2:stop(15,3s) 2:start 2:stop(15,3s)")
		})
	})
	t.Run("told to end while a child is replaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{KillSignal: syscall.SIGINT, KillTimeout: 9 * second})
			w.Changed()
			synctest.Wait()
			w.now.slow = 5 * second
			w.Changed()
			time.Sleep(second)
			w.signals <- syscall.SIGTERM
			<-w.done
			w.want(t, "0:start 0:stop(2,9s) 1:15")
			if err := <-w.Ends(); cli.Code(err) != 130 {
				t.Errorf("ended with %v", err)
			}
		})
	})
	t.Run("splay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{ReloadSignal: syscall.SIGHUP, Splay: 10 * second})
			w.Changed()
			synctest.Wait()
			for range 3 { // changes within the splay are one
				w.Changed()
				synctest.Wait()
			}
			time.Sleep(10 * second)
			if got := w.happened(); !strings.HasPrefix(got, "0:start ") || strings.Count(got, ":1") != 1 || !strings.HasSuffix(got, ":1") {
				t.Errorf("happened %q", got)
			}
			w.cancel()
			<-w.done
			if got := w.happened(); !strings.HasSuffix(got, "10:stop(2,30s)") {
				t.Errorf("happened %q", got)
			}
		})
	})
	t.Run("limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{Timeout: 5 * second})
			w.Changed()
			err := <-w.Ends()
			if cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "longer than 5s") {
				t.Errorf("%v, code %d", err, cli.Code(err))
			}
			w.want(t, "0:start 5:stop(2,30s)")
		})
	})
	t.Run("ends", func(t *testing.T) {
		for _, code := range []int{0, 9} {
			synctest.Test(t, func(t *testing.T) {
				w := newWard(t, Spec{})
				w.Changed()
				w.want(t, "0:start")
				w.signals <- syscall.SIGUSR1
				w.want(t, "0:start 0:10")
				w.now.ended <- code
				if err := <-w.Ends(); cli.Code(err) != code {
					t.Errorf("code %d, want %d: %v", cli.Code(err), code, err)
				}
			})
		}
	})
}

// Who waits for a change to be followed waits for the new child, or for the signal after
// the splay, and not in vain.
func TestFollow(t *testing.T) {
	second := time.Second
	follow := func(t *testing.T, w *ward, ctx context.Context) chan error {
		t.Helper()
		w.Changed()
		done := make(chan error, 1)
		go func() { err := w.Follow(ctx); w.note("followed"); done <- err }()
		return done
	}
	t.Run("restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{Splay: 0})
			<-follow(t, w, t.Context())
			if w.want(t, "0:start 0:followed"); w.Behind() {
				t.Error("behind, though it was just started")
			}
			w.now.slow = 5 * second
			done := follow(t, w, t.Context())
			synctest.Wait()
			if !w.Behind() {
				t.Error("the old child knows of the change")
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			w.want(t, "0:start 0:followed 0:stop(2,30s) 5:start 5:followed")
		})
	})
	t.Run("signal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{ReloadSignal: syscall.SIGHUP, Splay: 10 * second})
			<-follow(t, w, t.Context())
			if err := <-follow(t, w, t.Context()); err != nil {
				t.Error(err)
			}
			got := strings.Fields(w.happened())
			if len(got) != 4 || !strings.HasSuffix(got[2], ":1") || !strings.HasSuffix(got[3], ":followed") {
				t.Errorf("happened %q", got)
			}
			select {
			case <-w.Followed():
			default:
				t.Error("nothing is told of it")
			}
		})
	})
	t.Run("the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWard(t, Spec{ReloadSignal: syscall.SIGHUP, Splay: time.Hour})
			<-follow(t, w, t.Context())
			late := follow(t, w, t.Context())
			ctx, cancel := context.WithCancel(t.Context())
			gaveUp := follow(t, w, ctx)
			synctest.Wait()
			cancel()
			if err := <-gaveUp; err != context.Canceled {
				t.Errorf("its context has ended: %v", err)
			}
			w.now.ended <- 1
			if err := <-late; err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("the child has ended: %v", err)
			}
		})
	})
	var none *Bound
	if none.Behind() || none.Follow(t.Context()) != nil || none.Followed() != nil {
		t.Error("nothing is supervised, and something is waited for")
	}
}

// A child that ends after somebody has told it to has not failed by itself.
func TestStoppedBySomebody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, Spec{})
		w.Changed()
		synctest.Wait()
		for sig, want := range map[syscall.Signal]bool{syscall.SIGUSR1: false, syscall.SIGTERM: true} {
			if w.signals <- sig; want {
				synctest.Wait()
				if !w.Status().Stopped {
					t.Errorf("after %s: %+v", sig, w.Status())
				}
				w.Changed()
			}
			if synctest.Wait(); w.Status().Stopped {
				t.Errorf("after %s, or a start after it: %+v", sig, w.Status())
			}
		}
	})
}
