package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/test/harness"
)

// The child of a lock in these tests is this binary: a worker that ignores TERM
// and notes its token, its pid and the time, again and again.
const (
	beatEnv   = "MUSTER_TEST_BEAT" // the file
	beatEvery = 5 * time.Millisecond
	lockTTL   = 10 * time.Second // the least that an agent takes
)

func beatFor(file string) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	for {
		fmt.Fprintf(out, "%s %d %d\n", os.Getenv("LOCK_TOKEN"), os.Getpid(), proc.BootTime())
		time.Sleep(beatEvery)
	}
}

type beat struct {
	token uint64
	pid   int
	at    time.Duration
}

// contest is one lock that several holders of the test want.
type contest struct {
	c      *cluster
	file   string
	prefix string
}

func newContest(c *cluster, prefix string) *contest {
	return &contest{c: c, prefix: prefix, file: filepath.Join(c.Dir, strings.ReplaceAll(prefix, "/", "-"))}
}

// enter starts a lock at an agent.
func (x *contest) enter(a *agent, flags ...string) *exec.Cmd {
	x.c.T.Helper()
	self, err := os.Executable()
	if err != nil {
		x.c.T.Fatal(err)
	}
	args := append([]string{"-http-addr=" + a.IP + ":8500", "-ttl=" + lockTTL.String(), "-lock-delay=0s"}, flags...)
	cmd := exec.Command(filepath.Join(harness.Bin(x.c.T), "lock"), append(args, x.prefix, self)...)
	cmd.Env = append(os.Environ(), beatEnv+"="+x.file)
	cmd.Stderr = os.Stderr
	cmd = a.Beside(cmd)
	if err := cmd.Start(); err != nil {
		x.c.T.Fatal(err)
	}
	x.c.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return cmd
}

func (x *contest) beats() []beat {
	data, err := os.ReadFile(x.file)
	if err != nil {
		return nil
	}
	var all []beat
	for line := range strings.Lines(string(data)) {
		var b beat
		if n, _ := fmt.Sscanf(line, "%d %d %d\n", &b.token, &b.pid, (*int64)(&b.at)); n == 3 {
			all = append(all, b)
		}
	}
	return all
}

// last waits for a beat with a token above one, and gives the newest.
func (x *contest) last(above uint64) beat {
	x.c.T.Helper()
	var got beat
	harness.Within(x.c.T, 60*time.Second, x.prefix+" is held anew", func(context.Context) error {
		if all := x.beats(); len(all) > 0 {
			got = all[len(all)-1]
		}
		if got.token <= above {
			return fmt.Errorf("the last beat is of %d, not above %d", got.token, above)
		}
		return nil
	})
	return got
}

// check is the property: whoever holds the lock later has the greater token, and
// no beat of an earlier holder comes after the first of a later one.
func (x *contest) check() {
	x.c.T.Helper()
	all := x.beats()
	for i := 1; i < len(all); i++ {
		if all[i].token < all[i-1].token {
			x.c.T.Errorf("%s: token %d still works at %v, when %d has worked since %v or before",
				x.prefix, all[i].token, all[i].at, all[i-1].token, all[i-1].at)
			return
		}
	}
}

func first(all []beat, token uint64) (at time.Duration) {
	for _, b := range all {
		if b.token == token {
			return b.at
		}
	}
	return 0
}

// parent is the guard of a child.
func parent(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data)[strings.LastIndexByte(string(data), ')')+1:])
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// Everything that can happen to a holder, at once, each to a holder of its own,
// with a rival that waits at another agent and no lock-delay to help: never do two
// work at the same time, and the rival gets the lock.
func TestFaultLock(t *testing.T) {
	for range rounds(1, 20) {
		t.Run("all at once", lockFault)
	}
}

func lockFault(t *testing.T) {
	c := harness.Start(t, 3, 2)
	home, away, third := c.Agent("c1"), c.Agent("c2"), c.Follower()
	type hold struct {
		*contest
		cmd  *exec.Cmd
		held beat
		hit  time.Duration
	}
	enter := func(prefix string, at *agent) *hold {
		h := &hold{contest: newContest(c, prefix)}
		h.cmd = h.enter(at)
		h.held = h.last(0)
		h.enter(away)
		return h
	}
	stopped, killed, frozen, cutOff := enter("stopped", third), enter("killed", third), enter("frozen", third), enter("cut/off", home)
	send := func(pid int, sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	// The tool is stopped: its guard goes by the deadline.
	send(stopped.cmd.Process.Pid, syscall.SIGSTOP)
	// The tool is killed: its guard kills at once.
	killed.hit = proc.BootTime()
	send(killed.cmd.Process.Pid, syscall.SIGKILL)
	// All on the machine stands still: tool, guard and child.
	guard := parent(t, frozen.held.pid)
	for _, pid := range []int{frozen.cmd.Process.Pid, guard, frozen.held.pid} {
		send(pid, syscall.SIGSTOP)
	}
	t.Cleanup(func() { _ = syscall.Kill(frozen.held.pid, syscall.SIGKILL); _ = syscall.Kill(guard, syscall.SIGKILL) })
	// Its agent is out of reach, half of the time paused and then dead.
	home.Signal(syscall.SIGSTOP)
	time.AfterFunc(lockTTL/2, func() { _ = syscall.Kill(home.Process().Pid(), syscall.SIGKILL) })

	for _, h := range []*hold{stopped, killed, frozen, cutOff} {
		next := h.last(h.held.token)
		h.check()
		if h == killed {
			all := h.beats()
			if free := first(all, next.token) - h.hit; free > lockTTL+3*time.Second {
				t.Errorf("the lock of a killed holder was free after %v", free)
			}
		}
	}
	// What stood still wakes up and wants to write: its token is worth nothing.
	write := func(token uint64) bool {
		t.Helper()
		ok, err := away.KVPut(t.Context(), "data", []byte("x"), client.KVWrite{Fence: fmt.Sprintf("frozen/.lock:%d", token)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if write(frozen.held.token) {
		t.Error("the token of a holder whose time is over lets a write through")
	}
	if now := frozen.last(frozen.held.token); !write(now.token) {
		t.Error("the holder's token does not let a write through")
	}
}

// A leader that dies takes no lock with it, and whoever waits for one that is free
// gets it as soon as there is a new leader.
func TestFaultLockLeader(t *testing.T) {
	c := harness.Start(t, 3, 1)
	away := c.Agent("c1")
	kept, freed := newContest(c, "kept"), newContest(c, "freed")
	kept.enter(away)
	held := kept.last(0)
	gone := freed.enter(away, "-kill-timeout=0s")
	was := freed.last(0)
	freed.enter(away)

	c.Leader().Kill()
	if err := gone.Process.Signal(syscall.SIGTERM); err != nil { // it releases as soon as somebody listens
		t.Fatal(err)
	}
	harness.Within(t, 30*time.Second, "a new leader", func(ctx context.Context) error {
		_, _, err := away.KVGet(ctx, "x", &client.Options{Consistent: true})
		return err
	})
	since := proc.BootTime()
	next := freed.last(was.token)
	if late := first(freed.beats(), next.token) - since; late > 2*time.Second {
		t.Errorf("the waiter got the free lock %v after there was a leader", late)
	}
	freed.check()
	// Longer than the holder would last without a renewal.
	harness.Within(t, 30*time.Second, "more beats", func(context.Context) error {
		all := kept.beats()
		if last := all[len(all)-1]; last.at-since < lockTTL {
			return errors.New("not yet")
		}
		return nil
	})
	if all := kept.beats(); all[len(all)-1].token != held.token {
		t.Error("the change of leader cost the holder its lock")
	}
}
