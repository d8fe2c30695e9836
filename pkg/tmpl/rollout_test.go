package tmpl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/lock"
)

// slots gives a turn whenever one is asked for, and takes the first away when lose is
// called.
type slots struct {
	turns, over int
	lose        chan struct{}
}

func (s *slots) Recover(context.Context) error { return nil }
func (s *slots) Await(context.Context) error   { return nil }

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
