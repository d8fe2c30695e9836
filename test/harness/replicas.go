package harness

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// digestPath is where a server says, on its own port, what its state is; see
// pkg/agent/server.
const digestPath = "/v1/internal/state-digest"

// Digest is the state of a server at one raft index.
type Digest struct {
	Cluster string
	Index   uint64
	SHA256  string
	Leads   bool
}

// Digest asks a server for it.
func (a *Agent) Digest(ctx context.Context) (d Digest, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var self struct {
		DebugConfig struct {
			AdvertiseAddr string
			ServerPort    int
		}
	}
	if _, err := a.Get(ctx, "/v1/agent/self", nil, &self); err != nil {
		return d, err
	}
	addr := net.JoinHostPort(self.DebugConfig.AdvertiseAddr, strconv.Itoa(self.DebugConfig.ServerPort))
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // throw-away certificates
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+digestPath, nil)
	if err != nil {
		return d, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return d, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return d, fmt.Errorf("%s says %s", a.Name, resp.Status)
	}
	return d, json.NewDecoder(resp.Body).Decode(&d)
}

// AwaitEqual waits until all servers that run, and answer, have applied the same
// entries, and fails the test if their states differ then. Servers of several clusters
// are compared within each. One server alone has nothing to be compared with.
func (c *Cluster) AwaitEqual() {
	c.T.Helper()
	within(context.Background(), c.T, MaxWait, "the servers have applied the same", func(ctx context.Context) error {
		all := map[string]map[string]Digest{} // by cluster and name
		leaders := map[string]bool{}
		for _, a := range c.Servers() {
			d, err := a.Digest(ctx)
			if err != nil {
				return err
			}
			if all[d.Cluster] == nil {
				all[d.Cluster] = map[string]Digest{}
			}
			all[d.Cluster][a.Name] = d
			leaders[d.Cluster] = leaders[d.Cluster] || d.Leads
		}
		for cluster, states := range all {
			if err := c.compare(states); err != nil {
				return fmt.Errorf("cluster %s: %w", cluster, err)
			}
			if !leaders[cluster] && len(states) > 1 {
				return fmt.Errorf("cluster %s has no leader", cluster)
			}
		}
		return nil
	})
}

// compare fails the test for equal indexes with different states; the error says that
// the indexes differ.
func (c *Cluster) compare(states map[string]Digest) error {
	var first string
	var lines []string
	differs := false
	for name, d := range states {
		lines = append(lines, fmt.Sprintf("%s at %d: %.12s", name, d.Index, d.SHA256))
		if first == "" {
			first = name
		}
		if d.Index == states[first].Index && d.SHA256 != states[first].SHA256 {
			c.T.Errorf("THE REPLICAS DIFFER: %s and %s have applied the same entries up to %d and hold different states", name, first, d.Index)
			return nil
		}
		differs = differs || d.Index != states[first].Index
	}
	if differs {
		return fmt.Errorf("their indexes differ: %s", strings.Join(lines, ", "))
	}
	return nil
}

// checkReplicas is AwaitEqual at the end of every test whose servers are all up: then
// they must have a leader, and agree. Where some are down, paused or cut off, the test
// has left the cluster as it wants it, and those that agree with a leader are compared.
func (c *Cluster) checkReplicas() {
	if c.T.Failed() || c.T.Skipped() || c.checked {
		return
	}
	c.checked = true
	servers := 0
	for _, a := range c.Agents {
		if !a.Server {
			continue
		}
		servers++
		if !a.Up() || a.proc.stopped() || c.cut {
			c.compareThose()
			return
		}
		select {
		case <-a.proc.Done():
			c.compareThose()
			return
		default:
		}
	}
	if servers > 1 {
		c.AwaitEqual()
	}
}

// compareThose compares the servers that answer, for a while, until those with a leader
// are at one index: nobody may differ from another at the same index, ever.
func (c *Cluster) compareThose() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil && !c.T.Failed() {
		all, led := map[string]map[string]Digest{}, false
		for _, a := range c.Servers() {
			if a.proc.stopped() {
				continue
			}
			d, err := a.Digest(ctx)
			if err != nil {
				continue
			}
			if all[d.Cluster] == nil {
				all[d.Cluster] = map[string]Digest{}
			}
			all[d.Cluster][a.Name] = d
			led = led || d.Leads
		}
		done := true
		for _, states := range all {
			done = c.compare(states) == nil && done
		}
		if done || !led {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
