package gossip

import (
	"net"
	"testing"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// TestServerByID: one that came back under another name is where it lives now,
// whatever the order of its names.
func TestServerByID(t *testing.T) {
	named := func(name, ip string, status serf.MemberStatus) serf.Member {
		return serf.Member{Name: name, Addr: net.ParseIP(ip), Status: status,
			Tags: map[string]string{tagRole: roleServer, tagPort: "8300", tagID: "x"}}
	}
	for what, names := range map[string][2]string{"the dead name first": {"a", "b"}, "the dead name last": {"b", "a"}} {
		v := newMembers([]serf.Member{
			named(names[0], "10.0.0.1", serf.StatusFailed), named(names[1], "10.0.0.2", serf.StatusAlive),
			{Name: "c", Tags: map[string]string{tagRole: roleClient, tagID: "y"}},
		})
		if got := v.ids["x"]; got.Addr != "10.0.0.2:8300" || got.Status != api.MemberAlive || len(v.ids) != 1 {
			t.Errorf("%s: %+v", what, v.ids)
		}
	}
}

// TestLastChangeIsKept: an agent that stops right after it met somebody finds
// them again.
func TestLastChangeIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		a := start(t, Config{NodeName: "a", transport: network.attach(ipOf(1))})
		b := start(t, Config{NodeName: "b", transport: network.attach(ipOf(2)), DataDir: t.TempDir()})
		c := start(t, Config{NodeName: "c", transport: network.attach(ipOf(3))})
		for _, n := range []*node{a, c} { // the second within the delay of the first
			if _, err := b.Join([]string{addrOf(n)}); err != nil {
				t.Fatal(err)
			}
		}
		b.end()
		if found, err := b.peers.load(); err != nil || len(found.Peers) != 2 {
			t.Errorf("the peers file has %+v, %v", found, err)
		}
		a.end()
		c.end()
	})
}
