package server

import (
	"testing"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// fixedPool is a pool with these members.
type fixedPool struct {
	noPool
	members []api.Member
}

func (p fixedPool) Members() []api.Member { return p.members }

func TestCandidates(t *testing.T) {
	expecting := func(id, status int, tags ...string) api.Member {
		return server("s"+uuid(id)[35:], id, "10.0.0.1", status, append([]string{"expect", "3"}, tags...)...)
	}
	alive := api.MemberAlive
	me := expecting(2, alive)
	for _, c := range []struct {
		what     string
		expect   int
		members  []api.Member
		want     []int
		crowd    bool
		conflict string
	}{
		{what: "alone by configuration", expect: 1, want: []int{2}},
		{what: "alone, and a cluster exists", expect: 1, members: []api.Member{me, expecting(1, alive, "boot", "1")}},
		{what: "alone, and a cluster existed", expect: 1, members: []api.Member{me, expecting(1, api.MemberFailed, "boot", "1")}},
		{what: "alone, and others have left", expect: 1, members: []api.Member{me, expecting(1, api.MemberLeft, "boot", "1")}, want: []int{2}},
		{what: "joins only", expect: 0, members: []api.Member{me, expecting(1, alive), expecting(3, alive)}},
		{what: "not enough", expect: 3, members: []api.Member{me, expecting(1, alive)}},
		{what: "enough", expect: 3, members: []api.Member{me, expecting(3, alive), expecting(1, alive)}, want: []int{1, 2, 3}},
		{what: "one has failed", expect: 3, members: []api.Member{me, expecting(1, alive), expecting(3, api.MemberFailed)}},
		{what: "more than enough", expect: 3, members: []api.Member{me, expecting(9, alive), expecting(1, alive), expecting(5, alive)}, want: []int{1, 2, 5}, crowd: true},
		{what: "others are before us", expect: 3, members: []api.Member{expecting(7, alive), expecting(1, alive), expecting(0, alive), me}, want: []int{0, 1, 2}, crowd: true},
		{what: "a cluster exists", expect: 3, members: []api.Member{me, expecting(1, alive, "boot", "1"), expecting(3, alive)}},
		{what: "a cluster existed", expect: 3, members: []api.Member{me, expecting(1, alive), expecting(3, alive), expecting(4, api.MemberFailed, "boot", "1")}},
		{what: "another number", expect: 3, members: []api.Member{me, expecting(1, alive), expecting(3, alive, "expect", "5")}, conflict: "s3"},
		{what: "clients do not count", expect: 3, members: []api.Member{me, expecting(1, alive), client("c", 3, "10.0.0.3", alive)}},
	} {
		s := &Server{cfg: Config{NodeName: "s2", NodeID: uuid(2), Expect: c.expect, Identity: inMemory(t, uuid(2)), Logger: logx.Discard(), Pool: fixedPool{members: c.members}}}
		set, crowd, conflict := s.founders()
		if len(set) != len(c.want) || crowd != c.crowd || conflict != c.conflict {
			t.Errorf("%s: %v, crowd %v, conflict %q", c.what, set, crowd, conflict)
			continue
		}
		for i, id := range c.want {
			if set[i].ID != uuid(id) {
				t.Errorf("%s: number %d is %s, want %s", c.what, i, set[i].ID, uuid(id))
			}
		}
	}
}

func (p fixedPool) ServerByID(id string) (gossip.Server, bool) {
	for _, m := range p.members {
		if srv, ok := gossip.ServerOf(m); ok && srv.ID == id {
			return srv, true
		}
	}
	return gossip.Server{}, false
}

func TestAgreed(t *testing.T) {
	s := &Server{cfg: Config{NodeID: uuid(1), Identity: inMemory(t, uuid(1))}}
	set := []gossip.Server{{ID: uuid(1)}, {ID: uuid(2)}, {ID: uuid(3)}}
	key := clusterIDOf(set)
	if s.agreed(set, key) {
		t.Error("agreed though nobody else proposes anything")
	}
	for i := range set[1:] {
		set[i+1].Tags = map[string]string{gossip.TagProposal: key}
	}
	if !s.agreed(set, key) {
		t.Error("not agreed though everybody proposes the same")
	}
	set[2].Tags = map[string]string{gossip.TagProposal: clusterIDOf(set[:2])}
	if s.agreed(set, key) {
		t.Error("agreed though one proposes another set")
	}
}
