package view

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// crowd is readers of all kinds over few keys and services, who come and go.
type crowd struct {
	*world
	rng     *rand.Rand
	queries map[string]Query
	parked  []*parked
	streams []*streaming
}

// parked is a blocked read: of what, since when, and what came of it.
type parked struct {
	key    string
	seen   Answer
	brief  bool // it does not wait for long
	cancel context.CancelFunc

	waits  Answer // what it was last seen to wait with
	reason bool   // it has waited, and what it reads has changed visibly since

	mu   sync.Mutex
	gone bool
	got  *Answer
}

// streaming is a Follower and what its reader has. It takes a frame only when it
// is told to: meanwhile it is a slow reader.
type streaming struct {
	follower *Follower
	have     map[string]Answer
}

func newCrowd(t testing.TB, seed uint64) *crowd {
	c := &crowd{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 0)), queries: map[string]Query{"list": listing("k/"), "never": get("never")}}
	for i := range 3 {
		c.queries[fmt.Sprint("k/", i)] = get(fmt.Sprint("k/", i))
		c.queries[fmt.Sprint("s", i)] = passing(fmt.Sprint("s", i))
	}
	return c
}

func (c *crowd) someKey() string {
	keys := slices.Sorted(maps.Keys(c.queries))
	return keys[c.rng.IntN(len(keys))]
}

// write changes something, or nothing that is to be seen: of a service only the
// instances that pass are.
func (c *crowd) write() {
	var cmds []state.Command
	for range 1 + c.rng.IntN(3) {
		n := c.rng.IntN(3)
		switch c.rng.IntN(5) {
		case 0:
			cmds = append(cmds, del(fmt.Sprint("k/", n)))
		case 1, 2:
			cmds = append(cmds, put(fmt.Sprint("k/", n), fmt.Sprint(c.rng.IntN(2))))
		case 3:
			cmds = append(cmds, put("unrelated", fmt.Sprint(c.index)))
		default:
			status := []string{api.HealthPassing, api.HealthWarning, api.HealthCritical}[c.rng.IntN(3)]
			cmds = append(cmds, instance(fmt.Sprint("n", c.rng.IntN(2)), fmt.Sprint("s", n), status))
		}
	}
	c.apply(cmds...)
	for _, p := range c.parked {
		if p.waits.Meta.Index > 0 && changed(p.waits, c.queries[p.key](c.views.Snapshot())) {
			p.reason = true
		}
	}
}

func (c *crowd) poll(ctx context.Context) {
	p := &parked{key: c.someKey()}
	shareKey := p.key
	if c.rng.IntN(4) == 0 {
		shareKey = ""
	}
	p.seen = c.queries[p.key](c.views.Snapshot())
	ctx, p.cancel = context.WithCancel(ctx)
	c.parked = append(c.parked, p)
	wait := time.Hour
	if p.brief = c.rng.IntN(4) == 0; p.brief {
		wait = time.Duration(1+c.rng.IntN(5)) * time.Second
	}
	go func() {
		ans, err := c.views.Read(ctx, shareKey, c.queries[p.key], p.seen.Meta.Index, wait)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.gone = true; err == nil {
			p.got = &ans
		}
	}()
}

func (c *crowd) stream() {
	s := &streaming{follower: c.views.Follow(), have: map[string]Answer{}}
	for key, q := range c.queries {
		shareKey := key
		if c.rng.IntN(4) == 0 {
			shareKey = ""
		}
		s.follower.Add(key, shareKey, q)
	}
	c.streams = append(c.streams, s)
}

// frame lets a stream take one frame, which must be the newest state.
func (c *crowd) frame(s *streaming) {
	index, changes, err := s.follower.Next(c.t.Context(), time.Millisecond)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, ch := range changes {
		s.have[ch.Name] = ch.Answer
	}
	if index != c.views.Snapshot().Index() {
		c.t.Fatalf("frame of %d at %d", index, c.index)
	}
	for key, q := range c.queries {
		if want := q(c.views.Snapshot()); changed(s.have[key], want) {
			c.t.Fatalf("a frame at %d leaves %s at %+v, it is %+v", index, key, s.have[key].Value, want.Value)
		}
	}
}

// check looks at everybody when all is quiet: who waits has seen what there is,
// who came back had reason to.
func (c *crowd) check() {
	var still []*parked
	for _, p := range c.parked {
		p.mu.Lock()
		now := c.queries[p.key](c.views.Snapshot())
		switch {
		case !p.gone && now.Meta.Index > p.seen.Meta.Index && changed(p.seen, now):
			c.t.Errorf("at %d a reader of %s waits that saw %+v at %d; it is %+v now", c.index, p.key, p.seen.Value, p.seen.Meta.Index, now.Value)
		case !p.gone:
			p.waits = now
			still = append(still, p)
		case p.got != nil && !p.brief && p.got.Meta.Index <= p.seen.Meta.Index:
			c.t.Errorf("%s: an answer at the index %d, not above %d", p.key, p.got.Meta.Index, p.seen.Meta.Index)
		case p.got != nil && !p.brief && p.waits.Meta.Index > 0 && !p.reason:
			c.t.Errorf("%s: a reader that waited at %+v returns with %+v for nothing", p.key, p.waits, p.got)
		}
		p.mu.Unlock()
	}
	c.parked = still
}

// Whatever is written, whoever leaves at whatever moment, the woken refresher among
// them: nobody who waits misses a change, nobody returns without one.
func TestCrowd(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, seed)
			ctx, cancel := context.WithCancel(t.Context())
			for range 150 {
				switch c.rng.IntN(6) {
				case 0, 1:
					c.poll(ctx)
				case 2:
					if len(c.streams) < 3 {
						c.stream()
					} else {
						c.frame(c.streams[c.rng.IntN(len(c.streams))])
					}
				case 3:
					time.Sleep(time.Second)
				default:
					c.write()
				}
				if len(c.parked) > 0 && c.rng.IntN(3) == 0 {
					c.parked[c.rng.IntN(len(c.parked))].cancel() // it may be a refresher that is on its way
				}
				if c.rng.IntN(4) > 0 {
					synctest.Wait()
					c.check()
				}
			}
			synctest.Wait()
			c.check()
			cancel()
			for _, s := range c.streams {
				c.frame(s)
				s.follower.Close()
			}
			synctest.Wait()
			if vs := &c.views.cache; c.views.Waiting() != 0 || len(vs.index.all) != len(vs.byKey) || vs.unused.Len() != len(vs.byKey) {
				t.Fatalf("seed %d: %d wait; %d views watched, %d kept, %d unused", seed, c.views.Waiting(), len(vs.index.all), len(vs.byKey), vs.unused.Len())
			}
		})
	}
}
