package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/pkg/api"
)

// bigPool is a pool of many members in one process and in virtual time, with the
// timing and the tags of real agents.
type bigPool struct {
	t    *testing.T
	net  *memNet
	all  []*node
	gone map[string]bool // killed, as far as the test knows

	mu    sync.Mutex
	heard []time.Time // of the last event, one entry a member
}

func newBigPool(t *testing.T) *bigPool {
	return &bigPool{t: t, net: newMemNet(), gone: map[string]bool{}}
}

// grow starts members who know nobody yet; their ticks are not in step.
func (f *bigPool) grow(count int) []*node {
	f.t.Helper()
	for range count {
		i := len(f.all) + 1
		f.all = append(f.all, start(f.t, Config{
			NodeName: fmt.Sprintf("node-%04d", i), NodeID: fmt.Sprintf("3f2b8c1e-0000-4000-8000-%012d", i),
			Server: i <= 3, ServerPort: 8300, Build: "0.1.0:0123abcd", Expect: 3 * min(1, 3/i), UseTLS: true,
			transport: f.net.attach(ipOf(i)),
			OnEvent:   f.event,
		}))
	}
	return f.all[len(f.all)-count:]
}

func (f *bigPool) event(Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, time.Now())
}

// joinAll has members join one of the first three each, all at once and with
// an agent's retries. It returns when each has been taken in.
func (f *bigPool) joinAll(some []*node) { f.join(some, min(3, len(f.all)-len(some))) }

func (f *bigPool) join(some []*node, targets int) {
	var joining sync.WaitGroup
	for _, n := range some {
		joining.Go(func() {
			for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
				target := ipOf(1+rand.IntN(targets)) + ":8301"
				if joined, _ := n.JoinContext(context.Background(), []string{target}); joined > 0 {
					return
				}
				time.Sleep(pause)
			}
		})
	}
	joining.Wait()
}

// build brings the bigPool to its size, in stages.
func (f *bigPool) build(size, stage int) {
	f.t.Helper()
	f.grow(1)
	for len(f.all) < size {
		f.joinAll(f.grow(min(stage, size-len(f.all))))
		f.converged(5 * time.Minute)
	}
}

// fill builds a pool too large for build: joins by streams only, without what
// gossip says of each. Everybody joins the first one twice, the second time when it
// knows all.
func (f *bigPool) fill(size int) {
	f.t.Helper()
	f.grow(1)
	f.net.mute.Store(true)
	for len(f.all) < size {
		f.join(f.grow(min(50, size-len(f.all))), 1)
		f.forget()
	}
	for some := range slices.Chunk(f.all[1:], 50) {
		f.join(some, 1)
		f.forget()
	}
	f.converged(5 * time.Minute)
	f.forget()
	f.net.mute.Store(false)
}

// forget empties every queue of what is to be gossiped.
func (f *bigPool) forget() {
	for _, n := range f.all {
		s := n.serf.Load()
		for _, of := range []any{s, s.Memberlist()} {
			queue := reflect.ValueOf(of).Elem().FieldByName("broadcasts").UnsafePointer()
			(*memberlist.TransmitLimitedQueue)(queue).Reset()
		}
	}
}

// converged returns how long it took until everybody knows everybody, all alive.
func (f *bigPool) converged(limit time.Duration) time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		missing := 0
		for _, n := range f.all {
			if n.alive() != len(f.all) {
				missing++
			}
		}
		if missing == 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			f.t.Fatalf("after %v %d of %d members do not know all", limit, missing, len(f.all))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// alive is how many members n sees as alive.
func (n *node) alive() int { return len(n.view.Load().byID) }

// fire sends an event from a random member and returns how long it took to the
// last; lost is how many it did not reach.
func (f *bigPool) fire() (last time.Duration, lost int) {
	f.t.Helper()
	f.mu.Lock()
	f.heard = nil
	f.mu.Unlock()
	began := time.Now()
	if err := f.all[rand.IntN(len(f.all))].UserEvent("deploy", make([]byte, 200)); err != nil {
		f.t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.heard {
		last = max(last, at.Sub(began))
	}
	return last, len(f.all) - len(f.heard)
}

// kill ends the last member and returns when the first and the last of the others
// have seen that it failed.
func (f *bigPool) kill() (first, last time.Duration) {
	f.t.Helper()
	victim := f.all[len(f.all)-1]
	f.all = f.all[:len(f.all)-1]
	f.gone[victim.cfg.NodeName] = true
	time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
	victim.end()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		seen := 0
		for _, n := range f.all {
			if n.status(victim.cfg.NodeName) == api.MemberFailed {
				seen++
			}
		}
		if seen > 0 && first == 0 {
			first = time.Since(began)
		}
		if seen == len(f.all) {
			return first, time.Since(began)
		}
		if time.Since(began) > time.Minute {
			f.t.Fatalf("a minute after its end %d of %d see %s as failed", seen, len(f.all), victim.cfg.NodeName)
		}
	}
}

// falseFailures is how many of the living are seen as failed, by how many together.
func (f *bigPool) falseFailures() int {
	wrong := 0
	for _, n := range f.all {
		if n.alive() == len(f.all) {
			continue
		}
		for _, m := range n.Members() {
			if m.Status != api.MemberAlive && !f.gone[m.Name] {
				wrong++
			}
		}
	}
	return wrong
}

func (f *bigPool) end() { endAll(f.all) }

// cost is what a stretch of virtual time took.
type cost struct {
	cpu                                        time.Duration
	packets, packetBytes, streams, streamBytes int64
}

func (f *bigPool) books() cost {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		f.t.Fatal(err)
	}
	c := &f.net.carried
	return cost{time.Duration(r.Utime.Nano() + r.Stime.Nano()), c.packets.Load(), c.packetBytes.Load(), c.streams.Load(), c.streamBytes.Load()}
}

func (f *bigPool) since(was cost) cost {
	now := f.books()
	return cost{now.cpu - was.cpu, now.packets - was.packets, now.packetBytes - was.packetBytes,
		now.streams - was.streams, now.streamBytes - was.streamBytes}
}
