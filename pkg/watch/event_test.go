package watch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// An agent's own events: no leader confirms the list, its index goes up and
// down, and an agent that was restarted has none.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path = "/v1/event/list"
		r := newRig(t, Config{})
		r.noLeader = true
		r.set(path, `[]`, 1)
		r.Follow([]Request{{Path: path}})
		if got := r.frame(time.Second).Results[Request{Path: path}]; !got.Empty {
			t.Errorf("%+v", got)
		}
		for _, step := range []struct {
			body  string
			index uint64
			items int
		}{{`[{"ID":"a"}]`, 900, 1}, {`[{"ID":"a"},{"ID":"b"}]`, 7, 2}, {`[]`, 1, 0}, {`[{"ID":"c"}]`, 5, 1}} {
			time.Sleep(time.Second) // it blocks again
			asked := r.count(path)
			r.set(path, step.body, step.index)
			got := r.frame(time.Second).Results[Request{Path: path}]
			if list, ok := got.Value.([]*api.Event); !ok || len(list) != step.items || got.Index != step.index {
				t.Errorf("%+v, want %+v", got, step)
			}
			time.Sleep(time.Second)
			if n := r.count(path) - asked; n > 1 {
				t.Errorf("index %d: asked %d times, want once, to block again", step.index, n)
			}
		}
		if len(r.modes) > 0 || len(r.Failing()) > 0 {
			t.Errorf("%q, %v", r.modes, r.Failing())
		}
	})
}
