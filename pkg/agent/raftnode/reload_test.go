package raftnode

import (
	"testing"
	"time"
)

// TestSnapshotRulesChange: at a node that runs, and at one that does not yet.
func TestSnapshotRulesChange(t *testing.T) {
	c := newCluster(t)
	m := c.found(1)[0]
	for _, want := range []SnapshotRules{{7, time.Second, 9}, {8, time.Minute, 10}} {
		if err := m.SetSnapshotRules(want); err != nil {
			t.Fatal(err)
		}
		if got := m.current().rulesInUse(); got != want || m.SnapshotRules() != want {
			t.Errorf("in use are %+v, %+v; want %+v", got, m.SnapshotRules(), want)
		}
	}
	want := SnapshotRules{3, time.Hour, 4}
	n := New(Config{})
	if err := n.SetSnapshotRules(want); err != nil {
		t.Fatal(err)
	}
	s := m.current() // stands for what was started before the change
	n.applySnapshotRules(s)
	if got := s.rulesInUse(); got != want {
		t.Errorf("a change while raft started: in use are %+v, want %+v", got, want)
	}
}
