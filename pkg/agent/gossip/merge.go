package gossip

import (
	"fmt"

	"github.com/hashicorp/serf/serf"
)

// mergeRules decide whom this pool takes in. Serf asks before two pools merge
// and for every member that is announced as alive. It asks with locks of its
// own held, hence only the published view is looked at.
type mergeRules struct{ pool *Pool }

func (r mergeRules) NotifyMerge(found []*serf.Member) error {
	view := r.pool.view.Load()
	fresh := 0
	for _, m := range found {
		if !view.knows(m.Name) {
			fresh++
		}
		if fresh > 0 && len(view.list)+fresh > r.pool.cfg.maxMembers() {
			return fmt.Errorf("member %s (%s) would be one too many: this pool takes %d; are they real? without encrypt anybody can make members up", m.Name, m.Addr, r.pool.cfg.maxMembers())
		}
		if err := r.check(m, view.byID); err != nil {
			return err
		}
	}
	return nil
}

func (r mergeRules) check(m *serf.Member, alive map[string]string) error {
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
	if name, ok := alive[id]; ok && name != m.Name {
		return fmt.Errorf("member %s (%s) has the node id %s, which %s has too: give one of the two another node_id", m.Name, m.Addr, id, name)
	}
	return nil
}
