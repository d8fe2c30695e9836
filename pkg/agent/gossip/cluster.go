package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// Pools of two clusters never merge: a server's tags name its cluster, and a member
// with another one is neither accepted nor shown. A client agent, and a server that
// has no cluster yet, take the cluster of the servers that they know.

// ErrForeign is in the chain of the errors about members of another cluster.
var ErrForeign = errors.New("it belongs to another cluster")

// refusalTexts mark the errors about refused members. This package logs each of them
// once; the libraries would log it again with every packet (see limitedWriter).
var refusalTexts = [][]byte{[]byte("another cluster"), []byte("another node_id")}

// maxRefusals bounds how many refused members are remembered, so that each is logged once.
const maxRefusals = 256

// Cluster is the id of the cluster that this pool belongs to, as far as this member
// knows; "" while it knows none.
func (p *Pool) Cluster() string {
	if own := p.ownCluster.Load(); own != nil && *own != "" {
		return *own
	}
	return p.view.Load().cluster
}

// clusterOf is the id that a server's tags give; "" for a client.
func clusterOf(tags map[string]string) string {
	if tags[tagRole] != roleServer {
		return ""
	}
	return tags[TagCluster]
}

// aliveWeight is more than there are members: one that is alive outweighs all that are not.
const aliveWeight = 1 << 16

// commonCluster is the id that most servers have; those that are alive decide first.
func commonCluster(list []api.Member) string {
	count := map[string]int{}
	for _, m := range list {
		c := clusterOf(m.Tags)
		switch {
		case c == "" || m.Status == api.MemberLeft:
		case m.Status == api.MemberAlive:
			count[c] += aliveWeight
		default:
			count[c]++
		}
	}
	best := ""
	for _, c := range slices.Sorted(maps.Keys(count)) {
		if count[c] > count[best] {
			best = c
		}
	}
	return best
}

// refusals are the members that were refused and logged.
type refusals struct {
	mu     sync.Mutex
	logged map[string]bool
}

// refuse is the error about a member of another cluster. It is logged the first time.
func (p *Pool) refuse(m *serf.Member, ours string) error {
	theirs := clusterOf(m.Tags)
	err := fmt.Errorf("member %s (%s): %w, %s, and not to this one's, %s: two clusters that share no history are never joined. "+
		"If it is to belong to this cluster, stop it, move its data directory away and start it with -retry-join=ADDRESS-OF-A-SERVER-TO-KEEP and without -bootstrap or -bootstrap-expect; "+
		"if this agent is in the wrong cluster, do that here", m.Name, m.Addr, ErrForeign, theirs, ours)
	if p.refusals.first(m.Name + " " + theirs + " " + m.Addr.String()) {
		p.cfg.Logger.Error("refused a member of another cluster", "member", m.Name, "address", m.Addr.String(), "its cluster", theirs, "this cluster", ours, "error", err)
	}
	return err
}

// first says whether it is called for the first time with this key.
func (s *refusals) first(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.logged[key]
	if !known {
		if len(s.logged) >= maxRefusals || s.logged == nil {
			s.logged = map[string]bool{}
		}
		s.logged[key] = true
	}
	return !known
}

// withoutForeign leaves out servers of another cluster. They are in the list when the
// pools merged before one of the two had its cluster id.
func (p *Pool) withoutForeign(found []serf.Member) []serf.Member {
	own := ""
	if o := p.ownCluster.Load(); o != nil {
		own = *o
	}
	if own == "" {
		return found
	}
	return slices.DeleteFunc(found, func(m serf.Member) bool {
		c := clusterOf(m.Tags)
		if c == "" || c == own || m.Name == p.cfg.NodeName {
			return false
		}
		if m.Status != serf.StatusLeft {
			_ = p.refuse(&m, own)
		}
		return true
	})
}

func isRefusal(line []byte) bool {
	return slices.ContainsFunc(refusalTexts, func(mark []byte) bool { return bytes.Contains(line, mark) })
}
