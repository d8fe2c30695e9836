package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// spread starts a pool whose members do not tick in step.
func spread(t *testing.T, network *memNet, count int) []*node {
	t.Helper()
	var all []*node
	for i := 1; i <= count; i++ {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		n := start(t, Config{NodeName: fmt.Sprint("n", i), transport: network.attach(ipOf(i))})
		if i > 1 {
			if _, err := n.Join([]string{ipOf(1) + ":8301"}); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, n)
	}
	time.Sleep(7 * time.Second) // a state exchange, for what was lost
	return all
}

// aliveFor fails the test as soon as somebody sees a member as anything but
// alive.
func aliveFor(t *testing.T, all []*node, name string, d time.Duration) {
	t.Helper()
	for range d / (20 * time.Millisecond) {
		time.Sleep(20 * time.Millisecond)
		for _, n := range all {
			if got := n.status(name); got != api.MemberAlive {
				t.Fatalf("%s sees %s as %d", n.cfg.NodeName, name, got)
			}
		}
	}
}

// A killed member of ten is seen as failed by all in less than 3 s, and never in
// more than 4: who probes it next is chance, but within a second somebody does.
func TestKilledMemberIsSeenByAll(t *testing.T) {
	var took []time.Duration
	const rounds, late = 45, 6 // one in twenty is
	for range rounds {
		bubble(t, func(t *testing.T) {
			network := newMemNet()
			all := spread(t, network, 10)
			defer endAll(all)
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
			network.setDown(ipOf(10)+":8301", true)
			took = append(took, waitStatus(t, all[:9], "n10", api.MemberFailed, 20*time.Second))
		})
	}
	slices.Sort(took)
	t.Logf("seen by all after %v", took)
	if worst, many := took[rounds-1], took[rounds-1-late]; worst > 6*time.Second || many > 4*time.Second {
		t.Errorf("the slowest of %d took %v, and more than %d took %v", rounds, worst, late, many)
	}
	if median := took[len(took)/2]; median > 3300*time.Millisecond {
		t.Errorf("the median is %v, want about 3 s", median)
	}
}

// The network loses one packet in twenty, for a minute.
func TestPacketLossFailsNobody(t *testing.T) {
	for range 5 {
		bubble(t, func(t *testing.T) {
			network := newMemNet()
			network.loss = 0.05
			all := spread(t, network, 10)
			defer endAll(all)
			for range 60 * 50 {
				time.Sleep(20 * time.Millisecond)
				for _, n := range all {
					for _, m := range n.Members() {
						if m.Status != api.MemberAlive {
							t.Fatalf("%s sees %s as %d", n.cfg.NodeName, m.Name, m.Status)
						}
					}
				}
			}
		})
	}
}

// Nobody's tick is in step, so that the pause meets every phase.
func TestPausesFailNobody(t *testing.T) {
	for range 15 {
		bubble(t, func(t *testing.T) {
			network := newMemNet()
			all := spread(t, network, 10)
			defer endAll(all)
			network.setDown(ipOf(10)+":8301", true)
			aliveFor(t, all[:9], "n10", 2*time.Second)
			network.setDown(ipOf(10)+":8301", false)
			aliveFor(t, all[:9], "n10", 8*time.Second)
		})
	}
}

func TestRestartWithinTwoSecondsFailsNobody(t *testing.T) {
	for range 10 {
		bubble(t, func(t *testing.T) {
			network := newMemNet()
			all := spread(t, network, 10)
			defer func() { endAll(all) }()
			all[9].end() // no leave
			aliveFor(t, all[:9], "n10", 1900*time.Millisecond)
			all[9] = start(t, Config{NodeName: "n10", transport: network.attach(ipOf(10))})
			if _, err := all[9].Join([]string{ipOf(1) + ":8301"}); err != nil {
				t.Fatal(err)
			}
			aliveFor(t, all, "n10", 8*time.Second)
		})
	}
}

// A graceful leave is seen by all within 50 ms and takes at most half a second,
// whatever the size of the pool and the phase of its ticks.
func TestLeaveIsSeenAtOnce(t *testing.T) {
	for _, size := range []int{3, 10, 50} {
		bubble(t, func(t *testing.T) {
			network := newMemNet()
			all := spread(t, network, size)
			defer endAll(all)
			last := all[size-1]
			began := time.Now()
			seen := make(chan time.Duration, 1)
			go func() {
				for seenBy := 0; seenBy < size-1; {
					time.Sleep(time.Millisecond)
					seenBy = 0
					for _, n := range all[:size-1] {
						switch n.status(last.cfg.NodeName) {
						case api.MemberLeft:
							seenBy++
						case api.MemberFailed:
							t.Errorf("%s sees the leave as a failure", n.cfg.NodeName)
							seenBy++
						}
					}
				}
				seen <- time.Since(began)
			}()
			if err := last.Leave(); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			heard := <-seen
			t.Logf("%d members: seen by all after %v, Leave took %v", size, heard, took)
			if heard > 50*time.Millisecond || took > 500*time.Millisecond {
				t.Errorf("%d members: seen by all after %v, Leave took %v", size, heard, took)
			}
		})
	}
}

// Nobody answers at the address, nor refuses: the end of the context ends the
// join, and the end of the pool the attempt.
func TestJoinEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		network.attach(ipOf(9)) // takes streams, reads nothing
		n := start(t, Config{NodeName: "n1", transport: network.attach(ipOf(1))})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := n.JoinContext(ctx, []string{ipOf(9) + ":8301"}); err == nil {
			t.Error("a black hole took us in")
		}
		n.end()
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("joining a black hole held the end up for %v", took)
		}
	})
}
