package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// Faults that the cluster has to survive. The short form of these tests runs with
// all the others; MUSTER_CHAOS=1 (make chaos) gives each of them more rounds.

// rounds is how often a fault is repeated.
func rounds(short, long int) int {
	if os.Getenv("MUSTER_CHAOS") != "" {
		return long
	}
	return short
}

// byProbe is logged by a follower that stands because its leader is dead.
const byProbe = "the leader's port refuses connections"

// saidBy counts a text in the logs of all servers.
func saidBy(c *cluster, text string) int {
	n := 0
	for _, a := range c.Agents {
		n += a.Said(text)
	}
	return n
}

// elections are how often somebody has stood, for whatever reason.
func elections(c *cluster) int { return saidBy(c, "entering candidate state") }

// firstWrite is when a write is accepted through one of these again.
func firstWrite(t *testing.T, through []*agent, key string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for n := 0; time.Since(began) < limit; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // one may be stuck at a dead leader
		_, err := through[n%len(through)].KVPut(ctx, key, []byte("x"), client.KVWrite{}, nil)
		cancel()
		if err == nil {
			return time.Since(began)
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Errorf("no write was accepted within %v", limit)
	return limit
}

// A leader that is killed is succeeded within a fraction of a second.
func TestFaultLeaderKilled(t *testing.T) {
	c := harness.Start(t, 3, 0)
	var took []time.Duration
	for i := range rounds(5, 15) {
		awaitOneCluster(c, 3, 3)
		wait(t, time.Second)
		dead := c.Leader()
		rest := slices.DeleteFunc(c.Servers(), func(a *agent) bool { return a == dead })
		dead.Kill()
		took = append(took, firstWrite(t, rest, fmt.Sprint("failover/", i), 10*time.Second))
		dead.Start()
	}
	slices.Sort(took)
	t.Logf("kill -9 of the leader to the next accepted write: median %v, most %v of %d", took[len(took)/2], took[len(took)-1], len(took))
	if median, most := took[len(took)/2], took[len(took)-1]; median > 900*time.Millisecond || most > 4*time.Second {
		t.Errorf("kill -9 of the leader to the next accepted write: %v", took) // the timers alone: 2 to 3 s
	}
	if saidBy(c, byProbe) == 0 {
		t.Error("no election was started by the failover probe")
	}
}

// A leader that does not answer but lives, though paused for a while, or with as
// many connections waiting as the kernel takes, is left alone by the failover probe: before
// the timers are up nobody stands.
func TestFaultLeaderPaused(t *testing.T) {
	for name, crowd := range map[string]bool{"paused": false, "paused, with a full queue": true} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, 3, 0)
			awaitOneCluster(c, 3, 3)
			a := c.Leader()
			before := elections(c)
			a.Signal(syscall.SIGSTOP)
			if crowd {
				for _, conn := range fill(t, a.IP+":8300") {
					defer conn.Close()
				}
			} else {
				wait(t, 800*time.Millisecond)
			}
			if n := saidBy(c, byProbe); n != 0 {
				t.Error("the port of a paused leader counted as refused")
			}
			if n := elections(c); !crowd && n != before {
				t.Errorf("%d elections during a pause of 0.8 s", n-before)
			}
			rest := slices.DeleteFunc(c.Servers(), func(b *agent) bool { return a == b })
			took := firstWrite(t, rest, "paused", 10*time.Second) // by the timers
			t.Logf("writes are accepted again %v later", took)
			a.Signal(syscall.SIGCONT)
			awaitOneCluster(c, 3, 3)
			if n := saidBy(c, byProbe); n != 0 {
				t.Error("the failover probe started an election against a leader that lives")
			}
		})
	}
}

// fill connects until the kernel takes no more, or as often as is sensible.
func fill(t *testing.T, addr string) (open []net.Conn) {
	t.Helper()
	for len(open) < 6000 {
		conn, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			t.Logf("full after %d connections: %v", len(open), err)
			return open
		}
		open = append(open, conn)
	}
	return open
}

// A leader whose process is replaced at once: whoever leads then, it is one, and
// nothing is lost.
func TestFaultLeaderRestarted(t *testing.T) {
	c := harness.Start(t, 3, 0)
	for i := range rounds(3, 15) {
		awaitOneCluster(c, 3, 3)
		a := c.Leader()
		a.PutKey(fmt.Sprint("before/", i), "x")
		a.Kill()
		a.Start()
		awaitOneCluster(c, 3, 3)
		checkShared(c, fmt.Sprint("after/", i))
		for _, b := range c.Servers() {
			if got := b.GetKey(fmt.Sprint("before/", i), &client.Options{Consistent: true}); got != "x" {
				t.Errorf("%s reads %q", b.Name, got)
			}
		}
	}
}

// Under load, and without a fault, nobody stands.
func TestFaultNoneNoElection(t *testing.T) {
	c := harness.Start(t, 3, 0)
	awaitOneCluster(c, 3, 3)
	before := elections(c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rounds(10, 180))*time.Second)
	defer cancel()
	done := make(chan int)
	for i := range 16 {
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				_, _ = c.Agents[i%3].KVPut(ctx, fmt.Sprint("load/", i), []byte(fmt.Sprint(n)), client.KVWrite{}, nil)
			}
			done <- n
		}()
	}
	writes := 0
	for range 16 {
		writes += <-done
	}
	t.Logf("%d writes", writes)
	if n := saidBy(c, byProbe); n != 0 {
		t.Errorf("%d times a living leader counted as dead", n)
	}
	if n := elections(c) - before; n != 0 {
		t.Errorf("%d elections", n)
	}
}

// Where the failover probe is switched off, only the timers find a dead leader.
func TestFaultLeaderKilledWithoutProbe(t *testing.T) {
	c := harness.Start(t, 3, 0, "-hcl", "performance { leader_probe = false }")
	awaitOneCluster(c, 3, 3)
	dead := c.Leader()
	rest := slices.DeleteFunc(c.Servers(), func(a *agent) bool { return a == dead })
	dead.Kill()
	firstWrite(t, rest, "failover", 30*time.Second)
	if n := saidBy(c, byProbe); n != 0 {
		t.Errorf("%d elections were started by the failover probe", n)
	}
}
