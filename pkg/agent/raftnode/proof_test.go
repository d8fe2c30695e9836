package raftnode

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

// TestNonVotersProveNothing: {leader, non-voter} | {two voters}.
func TestNonVotersProveNothing(t *testing.T) {
	c := newCluster(t)
	c.wires = newWires(t)
	all := c.found(3)
	lead := c.leader(all)
	extra := c.start("x", t.TempDir())
	if err := addNonvoter(lead.Node, "x", extra.addr); err != nil {
		t.Fatal(err)
	}
	c.write(all, "one")
	c.wantLines([]*member{extra}, "one")
	if err := lead.VerifyLeader(t.Context()); err != nil {
		t.Fatalf("with everybody there: %v", err)
	}
	others := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == lead })
	c.wires.set(true, between([]*member{lead, extra}, others)...)
	if err := lead.VerifyLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("with a server that has no vote alone: %v", err)
	}
	c.wires.set(false, between([]*member{lead, extra}, others)...)
	c.leader(append(all, extra))
}

// TestOldAnswersProveNothing: the followers' answers to what was sent before are on
// their way while they elect another, who acknowledges a write. They then reach the
// old leader, whose timers have not run out, and who has just been asked.
func TestOldAnswersProveNothing(t *testing.T) {
	c := newCluster(t)
	c.wires, c.slow = newWires(t), 10
	all := c.found(3)
	old := all[0]
	elect(t, old)
	c.leader(all)
	c.write(all, "one")
	c.wantLines(all, "one")

	var answers, rest []wire
	for _, m := range all[1:] {
		answers = append(answers, wire{m.id, old.id, false})
		rest = append(rest, wire{m.id, old.id, true})
	}
	c.wires.set(true, append(slices.Clone(answers), rest...)...)
	before := old.current().acks.sent.Load()
	until(t, "heartbeats are answered and the answers are held", func() bool {
		heard := func(m *member) bool {
			return time.Since(m.current().trans.heardFrom(raft.ServerID(old.id), old.current().raft.CurrentTerm())) < time.Second
		}
		return old.current().acks.sent.Load() >= before+4 && heard(all[1]) && heard(all[2])
	})
	var requests []wire
	for _, m := range all[1:] {
		requests = append(requests, wire{old.id, m.id, true}, wire{old.id, m.id, false})
	}
	c.wires.set(true, requests...)
	elect(t, all[1])
	c.write(all[1:], "two")
	if !old.IsLeader() {
		t.Fatal("the old leader has stepped down: nothing is tried")
	}
	verified := make(chan error, 1)
	go func() { verified <- old.VerifyLeader(t.Context()) }()
	c.wires.set(false, answers...)
	var err error
	select {
	case err = <-verified:
	case <-time.After(500 * time.Millisecond): // time enough for the old answers
		c.wires.set(false, append(rest, requests...)...)
		err = <-verified
	}
	if err == nil && !slices.Contains(old.tape.Lines(), "two") {
		t.Error("the old leader takes old answers for a proof, and lacks what the new one has acknowledged")
	}
	c.wires.set(false, append(rest, requests...)...)
	c.wantLines(all, "one", "two")
}

// elect makes a server stand, as evidence does, and waits until it leads.
func elect(t *testing.T, m *member) {
	t.Helper()
	if err := m.current().campaignNow(); err != nil {
		t.Fatal(err)
	}
	until(t, m.id+" leads", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return m.IsLeader() && m.Barrier(ctx) == nil
	})
}
