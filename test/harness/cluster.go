package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

// Cluster is a few agents of one datacenter, on a network of their own.
type Cluster struct {
	T      *testing.T
	Bin    string // the folder with the agent; "" is Bin(T)
	Net    string // "127.x.y"
	Dir    string // data and logs
	Flags  []string
	Agents []*Agent
	lan    *lan // nil: all share the test's network

	cut     bool // some are parted from the others
	checked bool // the replicas were compared at the end
}

// New is a cluster without agents; flags are for each that is added. The test
// runs beside others from here on.
func New(t *testing.T, flags ...string) *Cluster {
	t.Helper()
	t.Parallel()
	return &Cluster{T: t, Dir: t.TempDir(), Net: Net(t), Flags: flags}
}

// Start runs servers s1, s2, ... and clients c1, c2, ..., all with data on disk, and
// waits until all see each other.
func Start(t *testing.T, servers, clients int, flags ...string) *Cluster {
	t.Helper()
	c := New(t, flags...)
	c.Launch(servers, clients)
	return c
}

// Dev is one agent in memory that serves.
func Dev(t *testing.T, flags ...string) *Agent {
	t.Helper()
	a := New(t, flags...).addBare("dev", "-dev")
	a.Start()
	a.AwaitReady()
	return a
}

// Launch adds agents as Start does.
func (c *Cluster) Launch(servers, clients int) {
	c.T.Helper()
	for i := range servers {
		c.Add(fmt.Sprintf("s%d", i+1), true, fmt.Sprintf("-bootstrap-expect=%d", servers)).Start()
	}
	for i := range clients {
		c.Add(fmt.Sprintf("c%d", i+1), false).Start()
	}
	c.AwaitReady()
}

// Add is one more agent with data on disk, not started yet. It finds the others by
// the first two of them.
func (c *Cluster) Add(name string, server bool, flags ...string) *Agent {
	c.T.Helper()
	return c.addTo(name, server, []string{c.Net + ".1", c.Net + ".2"}, flags)
}

// AddAlone is one more server with data on disk, not started yet, that joins nobody.
func (c *Cluster) AddAlone(name string, flags ...string) *Agent {
	c.T.Helper()
	return c.addTo(name, true, nil, flags)
}

// AddClient is one more client agent, not started yet, that looks for one agent.
func (c *Cluster) AddClient(name string, to *Agent) *Agent {
	c.T.Helper()
	return c.addTo(name, false, []string{to.IP}, nil)
}

func (c *Cluster) addTo(name string, server bool, join, flags []string) *Agent {
	c.T.Helper()
	all := []string{"-data-dir=" + filepath.Join(c.Dir, name)}
	for _, addr := range join {
		all = append(all, "-retry-join="+addr)
	}
	all = append(append(all, "-retry-interval=1s", "-log-level=debug"), flags...)
	if server {
		all = append(all, "-server")
	}
	a := c.addBare(name, all...)
	a.Server = server
	return a
}

func (c *Cluster) addBare(name string, flags ...string) *Agent {
	c.T.Helper()
	nth := len(c.Agents) + 1
	a := &Agent{C: c, Name: name, nth: nth, IP: fmt.Sprintf("%s.%d", c.Net, nth)}
	if c.lan != nil {
		c.lan.attach(nth, a.IP)
	}
	a.Flags = append([]string{"-node=" + name, "-bind=" + a.IP, "-client=" + a.IP}, flags...)
	a.Flags = append(a.Flags, c.Flags...)
	var err error
	if a.Client, err = client.New(client.Config{Address: a.Addr()}); err != nil {
		c.T.Fatal(err)
	}
	c.Agents = append(c.Agents, a)
	c.T.Cleanup(func() {
		c.checkReplicas() // while all still run: the last one's cleanup comes first
		if a.Up() {
			a.proc.killAndAwaitChildren() // before its folder goes
		}
		a.CloseIdle()
		if c.T.Failed() {
			c.T.Logf("-- end of %s's log\n%s", a.Name, Tail(a.LogPath(), 40))
		}
	})
	return a
}

// AwaitReady waits until every agent sees every other pass.
func (c *Cluster) AwaitReady() {
	c.T.Helper()
	for _, a := range c.Agents {
		a.AwaitReady()
	}
}

// Agent is the one of that name.
func (c *Cluster) Agent(name string) *Agent {
	c.T.Helper()
	i := slices.IndexFunc(c.Agents, func(a *Agent) bool { return a.Name == name })
	if i < 0 {
		c.T.Fatalf("no agent %s", name)
	}
	return c.Agents[i]
}

// Running are the agents that are up.
func (c *Cluster) Running() (up []*Agent) {
	for _, a := range c.Agents {
		if a.Up() {
			up = append(up, a)
		}
	}
	return up
}

// Servers are the servers that are up.
func (c *Cluster) Servers() []*Agent {
	return slices.DeleteFunc(c.Running(), func(a *Agent) bool { return !a.Server })
}

// Leader is the agent that leads now.
func (c *Cluster) Leader() *Agent {
	c.T.Helper()
	var found *Agent
	Until(c.T, "a leader", func(ctx context.Context) error {
		for _, asked := range c.Running() {
			addr, err := asked.StatusLeader(ctx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(c.Agents, func(a *Agent) bool { return strings.HasPrefix(addr, a.IP+":") })
			if i >= 0 && c.Agents[i].Up() {
				found = c.Agents[i]
				return nil
			}
		}
		return errors.New("nobody names one that lives")
	})
	return found
}

// Follower is a server that does not lead.
func (c *Cluster) Follower() *Agent {
	c.T.Helper()
	lead := c.Leader()
	i := slices.IndexFunc(c.Agents, func(a *Agent) bool { return a.Server && a != lead && a.Up() })
	if i < 0 {
		c.T.Fatal("no server follows")
	}
	return c.Agents[i]
}
