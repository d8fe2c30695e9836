package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/logx"
)

// script is Slots whose slots end as it says; nil is a turn that is had.
type script struct {
	before  []error // instead of a turn
	after   []error // of a turn
	at      []time.Duration
	began   time.Time
	awaited int
}

func (s *script) Recover(context.Context) error { return errors.New("no agent") }
func (s *script) Wait(context.Context) error    { s.awaited++; return nil }

func (s *script) Do(ctx context.Context, apply func(context.Context) error) error {
	s.at = append(s.at, time.Since(s.began))
	if len(s.before) > 0 {
		err := s.before[0]
		s.before = s.before[1:]
		return err
	}
	err := apply(ctx)
	if len(s.after) > 0 {
		err, s.after = s.after[0], s.after[1:]
	}
	return err
}

// A turn that is not to be had, or was lost, is tried for again; one that was had is
// not, however it ended; and one that nobody wants any more is not taken.
func TestQueue(t *testing.T) {
	down := errors.New("no leader")
	for name, c := range map[string]struct {
		script  script
		at      []time.Duration
		applied int
		awaited int
	}{
		"had":     {script{}, []time.Duration{0}, 1, 0},
		"failed":  {script{after: []error{errors.New("exit code 1")}}, []time.Duration{0}, 1, 0},
		"lost":    {script{after: []error{fmt.Errorf("x: %w", lock.ErrLost)}}, []time.Duration{0, 0}, 2, 0},
		"stopped": {script{before: []error{ErrAborted}}, []time.Duration{0, 0}, 1, 1},
		"no agent": {script{before: []error{down, down, down}},
			[]time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := c.script
				s.began = time.Now()
				queue, applied, wanted := NewQueue(&s, logx.Discard()), 0, true
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					queue.Run(ctx, func() bool { return wanted }, func(context.Context) error { applied++; return nil })
				}()
				queue.Ask()
				time.Sleep(time.Hour)
				synctest.Wait()
				if !slices.Equal(s.at, c.at) || applied != c.applied || s.awaited != c.awaited {
					t.Errorf("tried at %v, applied %d times, waited %d times", s.at, applied, s.awaited)
				}
				wanted = false
				queue.Ask()
				synctest.Wait()
				if len(s.at) != len(c.at) {
					t.Error("took a turn that nobody wants")
				}
				cancel()
				<-ended
			})
		})
	}
}
