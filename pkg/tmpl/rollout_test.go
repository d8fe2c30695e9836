package tmpl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/rollout"
)

// slots gives a turn whenever one is asked for, and takes the first away when lose is
// called.
type slots struct {
	turns, over int
	lose        chan struct{}
}

func (s *slots) Recover(context.Context) error { return nil }
func (s *slots) Wait(context.Context) error    { return nil }

func (s *slots) Do(ctx context.Context, apply func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if s.turns++; s.turns == 1 {
		go func() {
			<-s.lose
			end(fmt.Errorf("no renewal: %w", lock.ErrLost))
		}()
	}
	err := apply(ctx)
	s.over++
	return err
}

// A command that runs while the slot is lost is stopped, with all that it started, before
// another machine is taken to be alone; in the next turn it runs again.
func TestLostTurnStopsTheCommand(t *testing.T) {
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprint("once ", once), func(t *testing.T) { lostTurn(t, once) })
	}
}

func lostTurn(t *testing.T, once bool) {
	r := newRig(t)
	r.consul.SetKey("k", "v1")
	tpl := r.template("out", `{{ key "k" }}`)
	r.write("reload", `#!/bin/sh
		echo $$ >>`+r.path("began")+`
		[ $(grep -c . `+r.path("began")+`) -gt 1 ] || { sleep 600 & echo $! >`+r.path("grandchild")+`; wait; }
		echo done >`+r.path("done")+`
	`)
	tpl.Command = "sh " + r.path("reload")
	s := &slots{lose: make(chan struct{})}
	cfg := Config{Templates: []Template{tpl}, Rollout: s, Once: once}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tool := New(r.config(cfg))
	go func() { ended <- tool.Run(ctx) }()
	until(t, r, "the command runs", func() bool { return strings.HasSuffix(r.file("grandchild"), "\n") })
	close(s.lose)
	if once {
		if err := <-ended; err == nil {
			t.Errorf("no error; log:\n%s", r.log)
		}
	} else {
		until(t, r, "it has run again", func() bool { return r.file("done") == "done\n" })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if again := r.file("done") != "-"; again == once {
		t.Errorf("run again: %v; log:\n%s", again, r.log)
	}
	id, err := strconv.Atoi(strings.TrimSpace(r.file("grandchild")))
	if err != nil {
		t.Fatal(err)
	}
	until(t, r, "what the command started is dead", func() bool { return errors.Is(syscall.Kill(id, 0), syscall.ESRCH) })
	r.wantFile("out", "v1")
	if once != (s.turns == 1) || s.over != s.turns {
		t.Errorf("%d turns, %d over", s.turns, s.over)
	}
}

func until(t *testing.T, r *rig, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s\nlog:\n%s", what, r.log)
		}
	}
}

// gated is Slots whose health gate looks at what has become of the change.
type gated struct {
	slots
	gate chan error // the cause of the end of a gate that was cut short; nil means no gate
	hold chan struct{}
	saw  func()
}

func (g *gated) Do(ctx context.Context, apply func(context.Context) error) error {
	err := apply(ctx)
	g.saw()
	if err != nil {
		return err
	}
	if g.gate == nil {
		return nil
	}
	select {
	case <-g.hold:
		return nil
	case <-ctx.Done():
		g.gate <- context.Cause(ctx)
		return context.Cause(ctx)
	}
}

// The turn lasts until the new child stands, however long the old one takes to stop:
// what follows, the end of the drain and the health gate, is about the new one.
func TestTurnLastsUntilTheNewChildStands(t *testing.T) {
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprint("once ", once), func(t *testing.T) {
			r := newRig(t)
			r.consul.SetKey("k", "v1")
			r.write("server", `
				trap 'sleep 0.3; exit 0' INT
				cat `+r.path("out")+` >`+r.path("running")+`
				while :; do sleep 0.02; done
			`)
			ended := make(chan error, 1)
			starts := make(chan int, 10)
			g := &gated{saw: func() { starts <- r.lines("child started") }}
			cfg := Config{Templates: []Template{r.template("out", `{{ key "k" }}`)}, Rollout: g, Once: once}
			cfg.Supervise.Command = []string{"sh", r.path("server")}
			cfg.Supervise.KillSignal = syscall.SIGINT
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tool := New(r.config(cfg))
			go func() { ended <- tool.Run(ctx) }()
			versions := []string{"v1", "v2"}
			if once {
				versions = versions[:1]
			}
			for _, version := range versions {
				r.consul.SetKey("k", version)
				if n, want := <-starts, int(version[1]-'0'); n != want {
					t.Errorf("when the turn of %s is over %d children have been started, want %d", version, n, want)
				}
				until(t, r, "the child runs", func() bool { return r.file("running") == version })
			}
			cancel()
			if err := <-ended; (err != nil) != once {
				t.Error(err)
			}
		})
	}
}

// A child that dies on what was changed is this machine's failure; one that somebody has
// stopped is not.
func TestChildThatDiesInItsTurn(t *testing.T) {
	for _, once := range []bool{false, true} {
		for _, stopped := range []bool{false, true} {
			t.Run(fmt.Sprintf("once %v stopped %v", once, stopped), func(t *testing.T) {
				r := newRig(t)
				r.consul.SetKey("k", "v1")
				r.write("server", "echo x >"+r.path("running")+"; while [ ! -e "+r.path("die")+" ]; do sleep 0.02; done; exit 7")
				g := &gated{hold: make(chan struct{}), gate: make(chan error, 1), saw: func() {}}
				signals := make(chan os.Signal, 1)
				cfg := Config{Templates: []Template{r.template("out", `{{ key "k" }}`)}, Rollout: g, Once: once, Signals: signals}
				cfg.Supervise.Command = []string{"sh", r.path("server")}
				ended := make(chan error, 1)
				tool := New(r.config(cfg))
				go func() { ended <- tool.Run(t.Context()) }()
				until(t, r, "the child runs", func() bool { return r.file("running") != "-" })
				want := 7
				if stopped {
					want = 128 + int(syscall.SIGTERM)
					signals <- syscall.SIGTERM
				} else {
					r.write("die", "")
				}
				if code := cli.Code(<-ended); code != want {
					t.Errorf("code %d, want %d\nlog:\n%s", code, want, r.log)
				}
				select {
				case cause := <-g.gate:
					if errors.Is(cause, rollout.ErrFailed) == stopped {
						t.Errorf("the gate was ended by %v", cause)
					}
				default:
					if !stopped {
						t.Error("the gate has opened")
					}
				}
			})
		}
	}
}

// slow gives a turn when the test says so.
type slow struct {
	slots
	open chan struct{}
}

func (s *slow) Do(ctx context.Context, apply func(context.Context) error) error {
	<-s.open
	return s.slots.Do(ctx, apply)
}

// What changes while a slot is waited for is written in that slot, and takes no other:
// an empty turn would drain the machine for nothing.
func TestChangeWhileWaitingTakesNoSecondSlot(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("k", "v1")
		s := &slow{open: make(chan struct{})}
		s.lose = make(chan struct{})
		r.start(Config{Templates: []Template{r.template("out", `{{ key "k" }}`)}, Rollout: s})
		for _, v := range []string{"v2", "v3"} {
			r.rest()
			r.consul.SetKey("k", v)
		}
		r.rest()
		close(s.open)
		r.rest()
		close(s.lose)
		r.rest()
		r.wantFile("out", "v3")
		if s.turns != 1 {
			t.Errorf("%d turns, want 1", s.turns)
		}
	})
}
