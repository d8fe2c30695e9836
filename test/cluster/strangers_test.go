package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// Two histories never meet, however servers that share none come together: nobody
// loses an entry that was acknowledged, each side says why, and what the operator is
// told to do works. That those that do share one agree is looked at by the harness at the
// end of every test.

// What is said when somebody is refused.
const (
	refusedMember = "refused a member of another cluster"
	whatToDo      = "-retry-join=ADDRESS-OF-A-SERVER-TO-KEEP"
)

// founded is s1, which founds a cluster alone and joins nobody, and s2 and s3, which
// join it.
func founded(t *testing.T) *cluster {
	t.Helper()
	c := harness.New(t, prompt)
	s1 := c.AddAlone("s1", "-bootstrap-expect=1")
	s1.Start()
	s1.AwaitSaid(agentRuns) // else s2 and s3 find each other, and look no further
	for i := 2; i <= 3; i++ {
		c.Add(fmt.Sprint("s", i), true).Start()
	}
	awaitOneCluster(c, 3, 3)
	return c
}

func putKeys(a *agent, prefix string, n int) {
	a.C.T.Helper()
	for i := range n {
		a.PutKey(fmt.Sprintf("%s/%d", prefix, i), prefix)
	}
}

// wantKeys wants that every one of these agents has n keys below a prefix.
func wantKeys(prefix string, n int, all ...*agent) {
	for _, a := range all {
		pairs, _, err := a.KVList(a.C.T.Context(), prefix+"/", &client.Options{Consistent: true})
		if err != nil || len(pairs) != n {
			a.C.T.Errorf("%s has %d of %d keys of %s, %v", a.Name, len(pairs), n, prefix, err)
		}
		harness.Until(a.C.T, a.Name+" holds the keys of "+prefix, func(ctx context.Context) error {
			pairs, _, err := a.KVList(ctx, prefix+"/", &client.Options{Stale: true})
			if err == nil && len(pairs) != n {
				err = fmt.Errorf("%d of %d", len(pairs), n)
			}
			return err
		})
	}
}

func wipe(a *agent) {
	a.C.T.Helper()
	if err := os.RemoveAll(a.DataDir()); err != nil {
		a.C.T.Fatal(err)
	}
}

// rejoins is what an agent's operator is told to do.
func rejoins(a *agent, to *agent) {
	a.C.T.Helper()
	wipe(a)
	var flags []string
	for _, f := range a.Flags {
		if !strings.HasPrefix(f, "-bootstrap") {
			flags = append(flags, f)
		}
	}
	a.Flags = append(flags, "-retry-join="+to.IP)
	a.Start()
}

// A founder that has lost its disk founds another cluster, which the first one keeps
// away from, whether there was a write meanwhile or not.
func TestFounderThatLostItsData(t *testing.T) {
	for name, between := range map[string]int{"nothing written meanwhile": 0, "a write meanwhile": 1} {
		t.Run(name, func(t *testing.T) {
			c := founded(t)
			s1, s2, s3 := c.Agents[0], c.Agents[1], c.Agents[2]
			putKeys(s1, "ours", 51)
			s1.Kill()
			if between > 0 {
				s2.AwaitPutKey("between/0", "between")
			}
			wipe(s1)
			s1.Start()
			harness.Until(t, "s1 has founded a cluster", func(context.Context) error {
				if s1.Said(beginning) < 2 {
					return errors.New("not yet")
				}
				return nil
			})
			s1.AwaitPutKey("theirs/0", "theirs")
			putKeys(s1, "theirs", 60)
			for range 3 { // those that knew s1 find it again
				_ = s2.Join(t.Context(), s1.IP, false)
				_ = s1.Join(t.Context(), s3.IP, false)
			}
			s1.AwaitSaid(refusedMember)
			s2.AwaitSaid(refusedMember)
			if s2.Said(whatToDo) == 0 || s1.Said(whatToDo) == 0 {
				t.Error("what to do is not said on both sides")
			}
			s2.AwaitPutKey("between/after", "x") // two of three are a majority
			wantKeys("ours", 51, s2, s3)
			wantKeys("between", 1+between, s2, s3)
			wantKeys("theirs", 0, s2, s3)
			wantKeys("theirs", 60, s1)
			wantKeys("ours", 0, s1)
			for _, a := range []*agent{s1, s2, s3} {
				if n := a.Said(refusedMember); n > 3 {
					t.Errorf("%s says %d times that it refused a member", a.Name, n)
				}
			}
			c.AwaitEqual()

			s1.Kill()
			rejoins(s1, s2)
			awaitOneCluster(c, 3, 3)
			wantKeys("ours", 51, s1, s2, s3)
			wantKeys("theirs", 0, s1, s2, s3)
		})
	}
}

// A founder that is told whom to join finds the cluster that it was part of, and founds
// none, with either flag.
func TestFounderLooksForItsCluster(t *testing.T) {
	for _, flag := range []string{"-bootstrap-expect=1", "-bootstrap"} {
		t.Run(flag, func(t *testing.T) {
			c := founded(t)
			s1 := c.Agents[0]
			s1.Kill()
			putKeysSoon(c.Agents[1], "kept", 5)
			wipe(s1)
			began := s1.Said(beginning)
			s1.Flags = append(s1.Flags, "-retry-join="+c.Net+".99", "-retry-join="+c.Agents[1].IP)
			if flag == "-bootstrap" {
				for i, f := range s1.Flags {
					if strings.HasPrefix(f, "-bootstrap-expect") {
						s1.Flags[i] = flag
					}
				}
			}
			s1.Start()
			awaitOneCluster(c, 3, 3)
			wantKeys("kept", 5, c.Agents...)
			if s1.Said(beginning) != began || s1.Said("founds no cluster, though it is told to") != 1 {
				t.Error("it has founded another cluster, or does not say that it did not")
			}
		})
	}
}

func putKeysSoon(a *agent, prefix string, n int) {
	a.C.T.Helper()
	for i := range n {
		a.AwaitPutKey(fmt.Sprintf("%s/%d", prefix, i), prefix)
	}
}

// -bootstrap that was left in the flags founds nothing again at a restart.
func TestFlagsOfTheFirstStart(t *testing.T) {
	c := founded(t)
	s1 := c.Agents[0]
	putKeys(s1, "ours", 5)
	for _, a := range c.Agents {
		a.Kill()
	}
	for _, a := range c.Agents {
		a.Start()
	}
	awaitOneCluster(c, 3, 3)
	wantKeys("ours", 5, c.Agents...)
	if n := s1.Said(beginning); n != 1 {
		t.Errorf("s1 has founded %d clusters", n)
	}
}

// Two clusters that one `agent join` would bring together stay two: at servers and
// clients of either.
func TestJoinOfTwoClusters(t *testing.T) {
	c := harness.New(t, prompt)
	var all []*agent
	for i := 1; i <= 2; i++ {
		s := c.AddAlone(fmt.Sprint("s", i), "-bootstrap-expect=1")
		s.Start()
		s.AwaitPutKey("own", s.Name)
		cl := c.AddClient(fmt.Sprint("c", i), s)
		cl.Start()
		harness.Until(t, "the client reaches its server", func(ctx context.Context) error {
			_, err := cl.StatusLeader(ctx)
			return err
		})
		putKeysSoon(cl, s.Name, 10)
		all = append(all, s, cl)
	}
	for i, from := range all {
		for j, to := range all {
			if i/2 == j/2 {
				continue
			}
			out, err := exec.Command(filepath.Join(harness.Bin(t), "agent"), "join", "-http-addr="+from.Addr(), to.IP).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "another cluster") || !strings.Contains(string(out), whatToDo) {
				t.Errorf("agent join at %s to %s: %v\n%s", from.Name, to.Name, err, out)
			}
		}
	}
	for i, a := range all {
		members, err := a.AgentMembers(t.Context(), nil)
		if err != nil || len(members) != 2 {
			t.Errorf("%s has %d members, %v", a.Name, len(members), err)
		}
		own, other := all[i/2*2].Name, all[2-i/2*2].Name
		wantKeys(own, 10, a)
		wantKeys(other, 0, a)
		if got := a.GetKey("own", nil); got != own {
			t.Errorf("%s reads %q", a.Name, got)
		}
		if n := a.Said(refusedMember); n < 1 || n > 2 {
			t.Errorf("%s says %d times that it refused a member", a.Name, n)
		}
	}
}

// A server whose disk was put back to an earlier state has forgotten votes and entries.
// It is refused, ends, stays ended, and comes back with -repair.
func TestServerPutBack(t *testing.T) {
	c := harness.Start(t, 3, 0, prompt)
	victim := c.Follower()
	victim.Kill()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(victim.DataDir())); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	awaitOneCluster(c, 3, 3)
	putKeys(victim, "acknowledged", 20)
	victim.Kill()
	wipe(victim)
	if err := os.CopyFS(victim.DataDir(), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it knows by itself
		victim.Start()
		if code := victim.Exit(); code == 0 {
			t.Errorf("it ends with %d", code)
		}
	}
	mentions(t, harness.Tail(victim.LogPath(), 3), "-repair", "earlier state")
	said := 0
	for _, a := range c.Servers() {
		wantKeys("acknowledged", 20, a)
		said += a.Said("refused to talk raft with another server") + a.Said("refused a server")
	}
	if said == 0 {
		t.Error("nobody says that it refused the server")
	}
	flags := victim.Flags
	victim.Flags = append(append([]string{}, flags...), "-repair")
	victim.Start()
	victim.Flags = flags
	awaitOneCluster(c, 3, 3)
	wantKeys("acknowledged", 20, c.Agents...)
}

// Of a data directory and its copy on another machine only the one that runs takes part.
func TestDataDirectoryCopied(t *testing.T) {
	for name, rename := range map[string]bool{"same name": false, "another name": true} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, 3, 0, prompt)
			putKeys(c.Agents[0], "ours", 10)
			origin := c.Follower()
			before, _, err := configuration(t.Context(), origin)
			if err != nil {
				t.Fatal(err)
			}
			twin := c.Add("twin", true, "-bootstrap-expect=3")
			origin.Pause() // or the copy would be torn
			err = os.CopyFS(twin.DataDir(), os.DirFS(origin.DataDir()))
			origin.Resume()
			if err != nil {
				t.Fatal(err)
			}
			if !rename {
				twin.Flags = append(twin.Flags, "-node="+origin.Name)
			}
			twin.Start()
			twin.AwaitSaid(agentRuns)
			harness.Until(t, "somebody refuses the copy", func(context.Context) error {
				for _, a := range c.Agents {
					if a.Said("if there are two, one data directory is a copy") > 0 || a.Said("has the id of this one") > 0 || a.Said("which "+origin.Name+" has too") > 0 || a.Said("our own node id") > 0 {
						return nil
					}
				}
				return errors.New("nobody says so")
			})
			putKeys(origin, "after", 10)
			wantKeys("ours", 10, c.Agents[:3]...)
			wantKeys("after", 10, c.Agents[:3]...)
			now, _, err := configuration(t.Context(), origin)
			if err != nil || fmt.Sprint(now) != fmt.Sprint(before) {
				t.Errorf("the configuration was %q and is %q, %v", before, now, err)
			}
			twin.Kill()
			awaitOneClusterOf(c, c.Agents[:3])
		})
	}
}

func awaitOneClusterOf(c *cluster, servers []*agent) {
	c.T.Helper()
	harness.Until(c.T, "all servers pass", func(ctx context.Context) error {
		for _, a := range servers {
			for _, b := range servers {
				if status, err := a.NodeStatus(ctx, b.Name); err != nil || status != api.HealthPassing {
					return fmt.Errorf("%s sees %s %q, %v", a.Name, b.Name, status, err)
				}
			}
		}
		return nil
	})
}
