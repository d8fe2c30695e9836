package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

// stage runs a Rerun whose children the test controls. It orders the same files again
// after an early failure, when the report says.
type stage struct {
	*Rerun
	others  chan os.Signal
	stopped func()
	again   *time.Timer // gives the order

	mu       sync.Mutex
	log      bytes.Buffer // and the errors that were reported
	started  []*fakeChild
	signals  []syscall.Signal
	startErr error
	gone     bool // signals find nobody
}

// fakeChild is a program that ends when the test, SIGINT or SIGKILL says so.
type fakeChild struct {
	stage *stage
	ended chan int
}

func (c *fakeChild) Pid() int { return 1 }

func (c *fakeChild) Pass(sig syscall.Signal) error { return c.Signal(sig) }

func (c *fakeChild) Signal(sig syscall.Signal) error {
	c.stage.mu.Lock()
	defer c.stage.mu.Unlock()
	if c.stage.gone {
		return os.ErrProcessDone
	}
	c.stage.signals = append(c.stage.signals, sig)
	if sig == syscall.SIGINT || sig == syscall.SIGKILL {
		c.ended <- 128 + int(sig)
	}
	return nil
}

func (c *fakeChild) Wait(context.Context) (int, error) { return <-c.ended, nil }

func (c *fakeChild) Stop(syscall.Signal, time.Duration) (int, error) {
	panic("a Rerun has its own timer")
}

func (s *stage) launchFake() (child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.startErr != nil {
		return nil, s.startErr
	}
	c := &fakeChild{stage: s, ended: make(chan int, 1)}
	s.started = append(s.started, c)
	return c, nil
}

func newStage(t *testing.T, spec Spec) *stage {
	s := &stage{others: make(chan os.Signal, 8), again: time.NewTimer(0)}
	s.again.Stop()
	spec.Command = []string{"reload"}
	s.Rerun = NewRerun(spec, Config{Logger: slog.New(slog.NewTextHandler(s, nil)), Signals: s.others})
	s.start = s.launchFake
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	wg.Go(func() { s.hear(ctx) })
	s.stopped = func() { cancel(); wg.Wait() }
	t.Cleanup(s.stopped)
	synctest.Wait()
	return s
}

func (s *stage) hear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-s.Outcomes():
			if v.Err != nil {
				fmt.Fprintln(s, "refused:", v.Err)
				s.again.Reset(v.Delay)
			}
		case <-s.again.C:
			s.with(func() { s.Tell(Order{Kind: Retry}) })
		}
	}
}

// Write takes the log.
func (s *stage) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *stage) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// with changes what the children see.
func (s *stage) with(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *stage) starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.started)
}

func (s *stage) wantSignals(t *testing.T, want ...syscall.Signal) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.signals, want) {
		t.Errorf("signals %v, want %v", s.signals, want)
	}
}

func (s *stage) changeNow() {
	s.again.Stop()
	s.with(func() { s.Tell(Order{Kind: Change}) })
	synctest.Wait()
}

// end ends the newest child.
func (s *stage) end(code int) {
	s.with(func() { s.started[len(s.started)-1].ended <- code })
	synctest.Wait()
}

func (s *stage) wantStarts(t *testing.T, n int) {
	t.Helper()
	synctest.Wait()
	if got := s.starts(); got != n {
		t.Fatalf("started %d times, want %d\n%s", got, n, s.logged())
	}
}

func TestExecRunsPerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.wantStarts(t, 0)
		s.changeNow()
		s.wantStarts(t, 1)
		s.end(0)
		time.Sleep(time.Hour)
		s.wantStarts(t, 1) // exit 0 waits for the next change
		s.changeNow()
		s.wantStarts(t, 2)
		s.end(0)
		s.wantSignals(t)
	})
}

func TestExecThatStillRunsIsStoppedAndStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.changeNow()
		time.Sleep(time.Hour) // no time limit
		s.changeNow()
		s.wantStarts(t, 2)
		s.wantSignals(t, syscall.SIGINT)
		if strings.Contains(s.logged(), "failed") {
			t.Errorf("an end that we caused is no failure:\n%s", s.logged())
		}
	})
}

func TestExecIsKilledWhenItDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{KillSignal: syscall.SIGTERM, KillTimeout: 10 * time.Second})
		s.changeNow()
		s.changeNow()
		s.changeNow() // while it is being stopped: one start serves both
		time.Sleep(9 * time.Second)
		s.wantStarts(t, 1)
		time.Sleep(time.Second)
		s.wantStarts(t, 2)
		s.wantSignals(t, syscall.SIGTERM, syscall.SIGKILL)
	})
}

func TestExecReloadSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{ReloadSignal: syscall.SIGHUP})
		s.changeNow()
		s.changeNow()
		s.changeNow()
		s.wantStarts(t, 1)
		s.wantSignals(t, syscall.SIGHUP, syscall.SIGHUP)
		// An end soon after a reload signal means that the files were refused.
		time.Sleep(time.Hour)
		s.changeNow()
		s.end(1)
		if !strings.Contains(s.logged(), "refused") {
			t.Errorf("log:\n%s", s.logged())
		}
		time.Sleep(time.Second)
		s.wantStarts(t, 2)
	})
}

func TestExecReloadSignalThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{ReloadSignal: syscall.SIGHUP})
		s.changeNow()
		s.with(func() { s.gone = true })
		s.changeNow()
		s.with(func() { s.gone = false })
		s.end(0)
		s.wantStarts(t, 2) // the change must not be lost
	})
}

func TestExecFailureBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.changeNow()
		for i, pause := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
			s.end(1)
			time.Sleep(time.Duration(pause)*time.Second - time.Millisecond)
			s.wantStarts(t, i+1)
			time.Sleep(time.Millisecond)
			s.wantStarts(t, i+2)
		}
		s.end(1)
		s.changeNow() // new data does not wait
		s.wantStarts(t, 10)
		s.end(0)
		time.Sleep(time.Hour)
		s.wantStarts(t, 10)
	})
}

func TestExecThatCrashesLaterStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.changeNow()
		for range 3 {
			time.Sleep(time.Minute)
			s.end(139)
			if !strings.Contains(s.logged(), "had run for a while") {
				t.Fatalf("log:\n%s", s.logged())
			}
			n := s.starts()
			time.Sleep(time.Second) // always the first delay: it has run well before
			s.wantStarts(t, n+1)
		}
	})
}

func TestExecThatCannotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.with(func() { s.startErr = os.ErrNotExist })
		s.changeNow()
		if !strings.Contains(s.logged(), "file does not exist") {
			t.Errorf("log:\n%s", s.logged())
		}
		s.with(func() { s.startErr = nil })
		time.Sleep(time.Second)
		s.wantStarts(t, 1)
		s.end(0)
	})
}

func TestOtherSignalsReachTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{})
		s.others <- syscall.SIGUSR1 // nobody is there
		s.wantSignals(t)
		s.changeNow()
		s.others <- syscall.SIGUSR1
		s.others <- syscall.SIGUSR2
		s.wantSignals(t, syscall.SIGUSR1, syscall.SIGUSR2)
		s.wantStarts(t, 1)
	})
}

func TestExecSplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Spec{Splay: 10 * time.Second})
		s.changeNow()
		s.wantStarts(t, 1)
		s.changeNow()
		s.wantSignals(t) // not before the splay
		time.Sleep(10 * time.Second)
		s.wantStarts(t, 2)
		s.wantSignals(t, syscall.SIGINT)
	})
}

func TestEndOfToolStopsExec(t *testing.T) {
	for _, change := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Spec{KillSignal: syscall.SIGTERM, KillTimeout: 5 * time.Second})
			s.changeNow()
			if change {
				s.changeNow() // it is being stopped already
			}
			began := time.Now()
			s.stopped()
			if d := time.Since(began); d != 5*time.Second {
				t.Errorf("took %s", d)
			}
			s.wantStarts(t, 1)
			s.wantSignals(t, syscall.SIGTERM, syscall.SIGKILL)
		})
	}
}

func TestFailure(t *testing.T) {
	tests := []struct {
		code int
		err  error
		want int
		text string
	}{
		{0, nil, 0, ""},
		{3, nil, 3, `run "x": exit code 3`},
		{143, nil, 143, `run "x": ended by signal terminated`},
		{0, errors.New("timed out"), cli.ExitRun, `run "x": timed out`},
	}
	for _, tt := range tests {
		err := Failure("x", tt.code, tt.err)
		if cli.Code(err) != tt.want || err != nil && err.Error() != tt.text {
			t.Errorf("%d, %v: %v", tt.code, tt.err, err)
		}
	}
}
