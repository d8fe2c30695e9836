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

// Pools of two clusters never merge: a server says in its tags which cluster it
// belongs to, and a member with another one is neither taken in nor shown. A client
// agent, and a server that belongs to none yet, follow the servers that they know.

// ErrForeign is in the chain of the errors about members of another cluster.
var ErrForeign = errors.New("it belongs to another cluster")

// refusedMarks are in the texts of errors about who is refused, which are said once here:
// they keep the library from saying them again with every packet.
var refusedMarks = [][]byte{[]byte("another cluster"), []byte("another node_id")}

// saidMost bounds how many strangers are remembered, so that each is told of once.
const saidMost = 256

// Cluster is the id of the cluster that this pool belongs to, as far as this member
// knows; "" while it knows none.
func (p *Pool) Cluster() string {
	if own := p.own.Load(); own != nil && *own != "" {
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

// commonCluster is the id that most servers have, those that live before others.
func commonCluster(list []api.Member) string {
	votes := map[string]int{}
	for _, m := range list {
		c := clusterOf(m.Tags)
		switch {
		case c == "" || m.Status == api.MemberLeft:
		case m.Status == api.MemberAlive:
			votes[c] += saidMost * saidMost // more than there are members
		default:
			votes[c]++
		}
	}
	best := ""
	for _, c := range slices.Sorted(maps.Keys(votes)) {
		if votes[c] > votes[best] {
			best = c
		}
	}
	return best
}

// strangers are the members that were refused and told of.
type strangers struct {
	mu   sync.Mutex
	said map[string]bool
}

// refuse is the error about a member of another cluster. It is logged the first time.
func (p *Pool) refuse(m *serf.Member, ours string) error {
	theirs := clusterOf(m.Tags)
	err := fmt.Errorf("member %s (%s): %w, %s, and not to this one's, %s: two clusters that share no history are never joined. "+
		"If it is to belong to this cluster, stop it, move its data directory away and start it with -retry-join=ADDRESS-OF-A-SERVER-TO-KEEP and without -bootstrap or -bootstrap-expect; "+
		"if this agent is in the wrong cluster, do that here", m.Name, m.Addr, ErrForeign, theirs, ours)
	if p.strangers.first(m.Name + " " + theirs + " " + m.Addr.String()) {
		p.cfg.Logger.Error("refused a member of another cluster", "member", m.Name, "address", m.Addr.String(), "its cluster", theirs, "this cluster", ours, "error", err)
	}
	return err
}

// first says whether it is called for the first time with this key.
func (s *strangers) first(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.said[key]
	if !known {
		if len(s.said) >= saidMost || s.said == nil {
			s.said = map[string]bool{}
		}
		s.said[key] = true
	}
	return !known
}

// withoutStrangers leaves out servers of another cluster: the pools had met before one
// of the two had its id.
func (p *Pool) withoutStrangers(found []serf.Member) []serf.Member {
	own := ""
	if o := p.own.Load(); o != nil {
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
	return slices.ContainsFunc(refusedMarks, func(mark []byte) bool { return bytes.Contains(line, mark) })
}
