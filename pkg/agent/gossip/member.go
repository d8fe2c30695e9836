package gossip

import (
	"net"
	"net/netip"
	"sort"
	"strconv"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// members is an immutable snapshot of the pool.
type members struct {
	list    []api.Member      // by name
	servers []Server          // alive ones, by name
	byID    map[string]string // node id -> name of the member that is alive
	ids     map[string]Server // server id -> server, an alive one before others
	addrs   map[netip.Addr]bool
	cluster string // the id that its servers have; "" for none
}

// Server is a member that is a server.
type Server struct {
	ID     string
	Name   string
	Addr   string // ip:port of the server port
	Status int    // api.MemberAlive ...
	Build  string
	Expect int // its bootstrap_expect, 0 = unset
	Level  int // its feature level, at least 1
	Tags   map[string]string
}

// Cluster is the id of the cluster that the server says it belongs to; "" for none.
func (s Server) Cluster() string { return s.Tags[TagCluster] }

// Members returns everybody that is known, by name, ourselves included. The
// slice and what is in it are shared: never modify them.
func (p *Pool) Members() []api.Member { return p.view.Load().list }

// NumNodes returns how many members are known, whatever their status.
func (p *Pool) NumNodes() int { return len(p.view.Load().list) }

// Servers returns the servers that are alive, by name. The slice is shared:
// never modify it.
func (p *Pool) Servers() []Server { return p.view.Load().servers }

// ServerByID returns the server with that id: if it has had several names, the
// member that is alive, else any.
func (p *Pool) ServerByID(id string) (Server, bool) {
	s, ok := p.view.Load().ids[id]
	return s, ok
}

// Member returns the member of that name.
func (p *Pool) Member(name string) (api.Member, bool) {
	return p.view.Load().named(name)
}

func (v *members) named(name string) (api.Member, bool) {
	i := sort.Search(len(v.list), func(i int) bool { return v.list[i].Name >= name })
	if i < len(v.list) && v.list[i].Name == name {
		return v.list[i], true
	}
	return api.Member{}, false
}

func (v *members) knows(name string) bool {
	_, ok := v.named(name)
	return ok
}

// Local returns ourselves as the others see us.
func (p *Pool) Local() api.Member {
	if m, ok := p.Member(p.cfg.NodeName); ok {
		return m
	}
	return api.Member{Name: p.cfg.NodeName, Tags: p.copyTags()}
}

// ServerOf reads a member's tags as those of a server; it returns false for a
// client, and for a server whose tags say no usable port.
func ServerOf(m api.Member) (Server, bool) {
	port, err := strconv.Atoi(m.Tags[tagPort])
	if m.Tags[tagRole] != roleServer || err != nil || port <= 0 || m.Tags[tagID] == "" {
		return Server{}, false
	}
	expect, _ := strconv.Atoi(m.Tags[tagExpect])
	level, _ := strconv.Atoi(m.Tags[tagLevel])
	return Server{
		ID:     m.Tags[tagID],
		Name:   m.Name,
		Addr:   net.JoinHostPort(m.Addr, strconv.Itoa(port)),
		Status: m.Status,
		Build:  m.Tags[tagBuild],
		Expect: expect,
		Level:  max(level, 1),
		Tags:   m.Tags,
	}, true
}

// refresh publishes what serf knows now.
func (p *Pool) refresh() {
	p.viewLock.Lock()
	defer p.viewLock.Unlock()
	s, err := p.running()
	if err != nil {
		return
	}
	found := p.withoutForeign(s.Members())
	p.grace.apply(found, p.view.Load())
	v := newMembers(found)
	p.view.Store(v)
	p.accepted.prune(v)
	p.peers.markDirty()
}

func newMembers(found []serf.Member) *members {
	v := &members{byID: map[string]string{}, ids: map[string]Server{}, addrs: map[netip.Addr]bool{}}
	for _, m := range found {
		if addr, ok := netip.AddrFromSlice(m.Addr); ok {
			v.addrs[addr.Unmap()] = true
		}
		v.list = append(v.list, apiMember(m))
	}
	sort.Slice(v.list, func(i, j int) bool { return v.list[i].Name < v.list[j].Name })
	v.cluster = commonCluster(v.list)
	for _, m := range v.list {
		s, isServer := ServerOf(m)
		if old, ok := v.ids[s.ID]; isServer && (!ok || old.Status != api.MemberAlive) {
			v.ids[s.ID] = s
		}
		if m.Status != api.MemberAlive {
			continue
		}
		v.byID[m.Tags[tagID]] = m.Name
		if isServer {
			v.servers = append(v.servers, s)
		}
	}
	return v
}

func apiMember(m serf.Member) api.Member {
	return api.Member{
		Name:        m.Name,
		Addr:        m.Addr.String(),
		Port:        m.Port,
		Tags:        m.Tags,
		Status:      int(m.Status), // the API's numbers are serf's
		ProtocolMin: m.ProtocolMin,
		ProtocolMax: m.ProtocolMax,
		ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin,
		DelegateMax: m.DelegateMax,
		DelegateCur: m.DelegateCur,
	}
}
