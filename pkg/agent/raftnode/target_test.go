package raftnode

import (
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestForgottenVoterHasNoVote: two of three are gone, and at the address of one
// a server with another id and no data has come up. It must not vote or
// acknowledge in the name of the one that was there: the third alone, which may
// lack what those two had acknowledged, would lead with its help.
func TestForgottenVoterHasNoVote(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	c.leader(all)
	c.write(all, "one")
	c.wantLines(all, "one")
	for _, m := range all {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	blank := c.start("blank", t.TempDir())
	c.mu.Lock()
	c.members["b"] = &member{addr: blank.addr}
	delete(c.members, "c")
	c.mu.Unlock()
	a := c.start("a", all[0].dir)

	until(t, "the blank server is asked for the other's vote", func() bool {
		return strings.Contains(blank.said.String(), "looks for another server at this address")
	})
	// The other way round: once it has started an election, it must have lost.
	until(t, "a has started an election", func() bool {
		return strings.Contains(a.said.String(), "pre-vote campaign failed") || a.IsLeader()
	})
	if a.IsLeader() {
		t.Error("a was elected with the vote of a server that has forgotten everything")
	}
	if has, err := blank.HasState(); has || err != nil {
		t.Errorf("the blank server has state: %v, %v", has, err)
	}
	if n := strings.Count(blank.said.String(), "looks for another server at this address"); n > 2 {
		t.Errorf("it said so %d times", n)
	}
	if got := a.tape.Lines(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("a holds %q", got)
	}
}

func TestTarget(t *testing.T) {
	for _, want := range []struct{ id, addr string }{{"a", "10.0.0.1:8300"}, {"a@b", "[::1]:8300"}, {"", "10.0.0.1:8300"}} {
		at := raft.ServerAddress(want.addr)
		if want.id != "" {
			at = target(raft.ServerID(want.id), at)
		}
		if id, addr := splitTarget(at); id != want.id || addr != want.addr {
			t.Errorf("%q is split into %q and %q", at, id, addr)
		}
	}
	if err := sendWantedID(nil, strings.Repeat("x", maxID+1)); err == nil {
		t.Error("an id that is too long is sent")
	}
}
