package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// running is a Runner at work, with a shell as its command.
type running struct {
	t       *testing.T
	signals chan os.Signal
	out     *bufio.Scanner // what the command prints
	stdin   *os.File       // of the command
	cancel  context.CancelCauseFunc
	code    int
	err     chan error
}

func run(t *testing.T, f *fake, script string, change ...func(*Runner)) *running {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &running{t: t, signals: make(chan os.Signal), out: bufio.NewScanner(out), stdin: stdin, cancel: cancel, err: make(chan error, 1)}
	runner := &Runner{
		Lock:    newLock(t, f, func(c *Config) { c.Delay = time.Millisecond }), // half of it is for the end of a lost command
		Spec:    proc.Spec{Argv: []string{"sh", "-c", script}, Stdin: in, Stdout: stdout, Stderr: os.Stderr},
		Signals: r.signals, KillAfter: time.Minute, Progress: t.Logf, Warn: t.Logf,
	}
	for _, c := range change {
		c(runner)
	}
	go func() {
		code, err := runner.Run(ctx)
		r.code = code
		r.err <- err
	}()
	t.Cleanup(func() {
		cancel(nil)
		for _, file := range []*os.File{in, stdin, out, stdout} {
			file.Close()
		}
	})
	return r
}

// line waits for a line of the command.
func (r *running) line(want string) {
	r.t.Helper()
	if !r.out.Scan() || r.out.Text() != want {
		r.t.Fatalf("the command prints %q, want %q: %v", r.out.Text(), want, r.out.Err())
	}
}

func (r *running) end() (int, error) {
	err := <-r.err
	return r.code, err
}

// isFree reports whether nothing is left of any hold.
func (f *fake) isFree() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pair == nil && len(f.sessions) == 0
}

// holdByOther makes another session hold the lock.
func (f *fake) holdByOther() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions["other"] = &fakeSession{}
	f.set(&api.KVPair{Key: "deploy/.lock", Flags: lockFlags, Session: "other"})
}

func (f *fake) breakLock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(nil)
}

func TestRunnerGivesTheExitCode(t *testing.T) {
	f := newFake()
	r := run(t, f, `echo $LOCK_KEY; exit 3`)
	r.line("deploy/.lock")
	if code, err := r.end(); code != 3 || err != nil || !f.isFree() {
		t.Errorf("code %d, %v; the lock is free: %v", code, err, f.isFree())
	}
}

func TestRunnerTimesOut(t *testing.T) {
	f := newFake()
	f.holdByOther()
	r := run(t, f, `echo began`, func(r *Runner) { r.Timeout = time.Millisecond })
	if _, err := r.end(); !errors.Is(err, ErrTimeout) {
		t.Errorf("%v, want ErrTimeout", err)
	}
}

func TestSignalEndsTheWait(t *testing.T) {
	f := newFake()
	f.holdByOther()
	r := run(t, f, `echo began`)
	r.signals <- syscall.SIGUSR1 // is for the command alone
	r.signals <- syscall.SIGTERM
	var by *cli.Interrupt
	if _, err := r.end(); !errors.As(err, &by) || by.Signal != syscall.SIGTERM {
		t.Errorf("%v, want an interrupt by SIGTERM", err)
	}
}

func TestSignalsAreForTheCommand(t *testing.T) {
	r := run(t, newFake(), `trap 'exit 7' USR1; sleep 1000 & echo ready; wait`)
	r.line("ready")
	r.signals <- syscall.SIGUSR1
	if code, err := r.end(); code != 7 || err != nil {
		t.Errorf("code %d, %v, want 7 of the command's trap", code, err)
	}
}

func TestLossEndsTheCommand(t *testing.T) {
	f := newFake()
	r := run(t, f, `echo ready; cat`)
	r.line("ready")
	f.breakLock()
	if _, err := r.end(); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
}

func TestElectedRunsAgainAfterALoss(t *testing.T) {
	f := newFake()
	r := run(t, f, `echo ready; cat`, func(r *Runner) { r.Elect = true })
	r.line("ready")
	f.breakLock()
	r.line("ready")
	r.stdin.Close()
	if code, err := r.end(); code != 0 || err != nil || !f.isFree() {
		t.Errorf("code %d, %v; the lock is free: %v", code, err, f.isFree())
	}
}

func TestElectedThatIsToldToStopRunsNotAgain(t *testing.T) {
	f := newFake()
	r := run(t, f, `trap 'echo told' TERM; sleep 1000 & echo ready; while :; do wait; done`, func(r *Runner) { r.Elect = true })
	r.line("ready")
	r.signals <- syscall.SIGTERM
	r.line("told")
	f.breakLock()
	if _, err := r.end(); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
}

func TestRunnerRunsOncePerValue(t *testing.T) {
	f := newFake()
	once := func(r *Runner) { r.Once = OncePer{Value: "v1"} }
	first := run(t, f, `echo ran`, once)
	first.line("ran")
	if code, err := first.end(); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	var note Success
	if err := json.Unmarshal(f.once.Value, &note); err != nil || note.Value != "v1" {
		t.Fatalf("noted %s: %v", f.once.Value, err)
	}
	if code, err := run(t, f, `exit 9`, once).end(); code != 0 || err != nil {
		t.Errorf("code %d, %v: it ran again", code, err)
	}
}

// warned is closed when the log has a text.
type warned struct {
	text string
	ch   chan struct{}
}

func (w *warned) Write(p []byte) (int, error) {
	if w.text != "" && strings.Contains(string(p), w.text) {
		w.text = ""
		close(w.ch)
	}
	return len(p), nil
}

// A success that cannot be recorded is ErrNotRecorded, not a failure of the command.
func TestRunnerReportsASuccessThatIsNotNoted(t *testing.T) {
	f := newFake()
	w := &warned{"could not note", make(chan struct{})}
	r := run(t, f, `echo ready; cat`, func(r *Runner) {
		r.Once = OncePer{Value: "v1"}
		r.Lock.log = slog.New(slog.NewTextHandler(w, nil))
	})
	r.line("ready")
	f.mu.Lock()
	f.faults = 1 << 30
	f.mu.Unlock()
	r.stdin.Close()
	<-w.ch
	r.cancel(errors.New("enough"))
	if _, err := r.end(); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("%v, want ErrNotNoted", err)
	}
}
