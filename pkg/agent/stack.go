package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// stack runs components and stops them in the opposite order of their start, each after
// the later ones have ended. If one ends with an error, failed has it, and the owner is
// to stop them all.
type stack struct {
	log    *slog.Logger
	failed chan error // has the first error; capacity 1
	runs   []running
}

type running struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

func newStack(log *slog.Logger) *stack {
	return &stack{log: log, failed: make(chan error, 1)}
}

// start runs a component until stop cancels it.
func (s *stack) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := running{name: name, cancel: cancel, done: make(chan struct{})}
	s.runs = append(s.runs, r)
	go func() {
		defer close(r.done)
		err := run(ctx)
		if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return
		}
		select {
		case s.failed <- fmt.Errorf("%s: %w", name, err):
		default:
			s.log.Error("component ended", "component", name, "error", err)
		}
	}()
}

// stop stops all components, the last started first.
func (s *stack) stop() {
	for i := len(s.runs) - 1; i >= 0; i-- {
		s.log.Debug("stopping", "component", s.runs[i].name)
		s.runs[i].cancel()
		<-s.runs[i].done
	}
	s.runs = nil
}
