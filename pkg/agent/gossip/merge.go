package gossip

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// acceptedTimeout is how long an accepted member may be missing from the view. It appears
// within a second, unless memberlist refused it for a reason of its own.
const acceptedTimeout = 5 * time.Second

// accepted are the members that the rules have accepted and the view does not show yet.
type accepted struct {
	mu   sync.Mutex
	at   map[string]time.Time // by name
	byID map[string]string    // node id -> name, of the living

	cluster string // that of the servers among them; "" for none
}

// prune removes those that a new view shows. It is called with every new view.
func (t *accepted) prune(view *members) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, at := range t.at {
		if view.knows(name) || time.Since(at) > acceptedTimeout {
			delete(t.at, name)
		}
	}
	if len(t.at) == 0 || view.cluster != "" {
		t.cluster = ""
	}
	for id, name := range t.byID {
		if _, ok := t.at[name]; !ok {
			delete(t.byID, id)
		}
	}
}

// mergeRules decide which members this pool accepts. Serf asks before two pools merge
// and for every member that is announced as alive. It asks with its own locks held,
// so only the published view and the list of accepted members are read.
type mergeRules struct{ pool *Pool }

func (r mergeRules) NotifyMerge(found []*serf.Member) error {
	view := r.pool.view.Load()
	t := &r.pool.accepted
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := make(map[string]*serf.Member)
	cluster := cmp.Or(r.pool.Cluster(), t.cluster)
	for _, m := range found {
		if theirs := clusterOf(m.Tags); theirs != "" && m.Status != serf.StatusLeft {
			if cluster = cmp.Or(cluster, theirs); theirs != cluster {
				return r.pool.refuse(m, cluster)
			}
		}
		if _, ok := t.at[m.Name]; !ok && !view.knows(m.Name) {
			fresh[m.Name] = m
		}
		if len(fresh) > 0 && len(view.list)+len(t.at)+len(fresh) > r.pool.cfg.MaxMembers {
			return fmt.Errorf("member %s (%s) would be one too many: this pool takes %d; are they real? without encrypt anybody can make members up", m.Name, m.Addr, r.pool.cfg.MaxMembers)
		}
		if err := r.check(m, view.byID, t.byID); err != nil {
			if isRefusal([]byte(err.Error())) && r.pool.refusals.first(err.Error()) {
				r.pool.cfg.Logger.Error("refused a member", "member", m.Name, "address", m.Addr.String(), "error", err)
			}
			return err
		}
	}
	if r.pool.Cluster() == "" && len(fresh) > 0 {
		t.cluster = cluster
	}
	for name, m := range fresh {
		t.at[name] = time.Now()
		if m.Status != serf.StatusLeft {
			t.byID[m.Tags[tagID]] = name
		}
	}
	return nil
}

func (r mergeRules) check(m *serf.Member, known ...map[string]string) error {
	cfg := &r.pool.cfg
	if m.Status == serf.StatusLeft {
		return nil
	}
	if dc := m.Tags[tagDC]; dc != cfg.Datacenter {
		return fmt.Errorf("member %s (%s) belongs to datacenter %q, this pool to %q: join agents of one datacenter only", m.Name, m.Addr, dc, cfg.Datacenter)
	}
	if role := m.Tags[tagRole]; role != roleServer && role != roleClient {
		return fmt.Errorf("member %s (%s) has the role %q, which is neither a server's nor a client's", m.Name, m.Addr, role)
	}
	id := m.Tags[tagID]
	if id == "" {
		return fmt.Errorf("member %s (%s) has no node id", m.Name, m.Addr)
	}
	if id == cfg.NodeID && m.Name != cfg.NodeName {
		return fmt.Errorf("member %s (%s) has our own node id %s: if it is a former name of this agent, run force-leave for it, else give one of the two another node_id", m.Name, m.Addr, id)
	}
	for _, names := range known {
		if name, ok := names[id]; ok && name != m.Name {
			return fmt.Errorf("member %s (%s) has the node id %s, which %s has too: give one of the two another node_id", m.Name, m.Addr, id, name)
		}
	}
	return nil
}
