package lock

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// FindSuccess and RecordSuccess are retried while an agent answers 500 or restarts.
func TestOnceIsRetriedDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, once := newFake(), OncePer{Value: "v1"}
		l := newLock(t, f)
		outage := func() {
			f.setDown(true)
			time.AfterFunc(time.Minute, func() {
				f.setDown(false)
				f.mu.Lock()
				f.faults = 3
				f.mu.Unlock()
			})
		}
		outage()
		seen, err := l.FindSuccess(t.Context(), once)
		if err != nil || seen.Done != nil {
			t.Fatalf("%+v, %v", seen, err)
		}
		outage()
		if err := l.RecordSuccess(t.Context(), once, seen); err != nil {
			t.Fatal(err)
		}
		if seen, err = l.FindSuccess(t.Context(), once); err != nil || seen.Done == nil {
			t.Fatalf("the note is not found: %+v, %v", seen, err)
		}
	})
}

// A success is recorded even after the lock is lost, but does not replace a newer record
// of somebody else.
func TestNoteAfterLoss(t *testing.T) {
	for _, other := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, once := newFake(), OncePer{Value: "v1"}
			l := newLock(t, f)
			err := l.Do(t.Context(), func(ctx context.Context, _ *Held) error {
				seen, err := l.FindSuccess(ctx, once)
				if err != nil {
					return err
				}
				f.setDown(true)
				<-ctx.Done() // lost
				f.setDown(false)
				if other {
					if err := l.RecordSuccess(t.Context(), OncePer{Value: "v2"}, seen); err != nil {
						return err
					}
				}
				return l.RecordSuccess(t.Context(), once, seen)
			})
			if !errors.Is(err, ErrLost) {
				t.Fatal(err)
			}
			var noted Success
			if f.once == nil || json.Unmarshal(f.once.Value, &noted) != nil {
				t.Fatal("nothing is noted")
			}
			if want := map[bool]string{false: "v1", true: "v2"}[other]; noted.Value != want {
				t.Errorf("%q is noted, want %q", noted.Value, want)
			}
		})
	}
}

// FindSuccess ends with its context.
func TestLookEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.setDown(true)
		late := errors.New("too late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, late)
		defer cancel()
		if _, err := newLock(t, f).FindSuccess(ctx, OncePer{Age: time.Hour}); !errors.Is(err, late) {
			t.Errorf("error %v", err)
		}
	})
}
