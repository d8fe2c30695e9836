package raftnode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/muster-dev/muster/pkg/api"
)

// TestProofsUnderAnAdversary: a network that holds, delays and reorders what goes
// between three voters and a non-voter, each direction by itself, and that has
// rivals stand while the leader's lease still runs. What is read with a proof, and
// what sessions are told when they are renewed, is linearizable.
func TestProofsUnderAnAdversary(t *testing.T) {
	c := newCluster(t)
	c.wires = newWires(t)
	all := c.found(3)
	lead := c.leader(all)
	extra := c.start("x", t.TempDir())
	if err := addNonvoter(lead.Node, "x", extra.addr); err != nil {
		t.Fatal(err)
	}
	c.wires.mu.Lock()
	c.wires.jitter = 20 * time.Millisecond
	c.wires.mu.Unlock()

	h := &history{began: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for id := range 12 {
		running.Go(func() { h.client(ctx, id, all) })
	}
	a := &adversary{wires: c.wires, random: rand.New(rand.NewPCG(3, 4)), voters: all, extra: extra}
	for range 30 {
		a.act(t)
	}
	stop()
	c.wires.set(false, between(append(all, extra), append(all, extra))...)
	running.Wait()
	until(t, "there is a leader again", func() bool {
		for _, m := range all {
			if m.IsLeader() && m.Barrier(t.Context()) == nil {
				return true
			}
		}
		return false
	})

	count := map[string]int{}
	terms := map[uint64]bool{}
	for _, op := range h.ops {
		count[op.Input.(input).verb]++
		terms[op.Output.(output).term] = true
	}
	t.Logf("%v by leaders of %d terms", count, len(terms)-1)
	if count["get"] < 50 || count["put"] < 50 || count["renew"] < 50 || len(terms) < 5 {
		t.Error("too little happened to say anything")
	}
	if result := porcupine.CheckOperationsTimeout(registers, h.ops, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %v", result)
	}
	if err := sameLines(t, append(all, extra)); err != nil {
		t.Error(err)
	}
}

// sameLines waits until all hold the same, in the same order.
func sameLines(t *testing.T, members []*member) error {
	t.Helper()
	until(t, "all have applied the same", func() bool {
		for _, m := range members[1:] {
			if m.AppliedIndex() != members[0].AppliedIndex() {
				return false
			}
		}
		return true
	})
	want := strings.Join(members[0].tape.Lines(), "\n")
	for _, m := range members[1:] {
		if strings.Join(m.tape.Lines(), "\n") != want {
			return fmt.Errorf("%s and %s hold different states", members[0].id, m.id)
		}
	}
	return nil
}

type adversary struct {
	wires  *wires
	random *rand.Rand
	voters []*member
	extra  *member
}

// act does one thing to the network, for a while.
func (a *adversary) act(t *testing.T) {
	victim := a.voters[a.random.IntN(len(a.voters))]
	for _, m := range a.voters {
		if m.IsLeader() && a.random.IntN(4) > 0 {
			victim = m
		}
	}
	var others []*member
	for _, m := range a.voters {
		if m != victim {
			others = append(others, m)
		}
	}
	side := []*member{victim}
	if a.random.IntN(3) > 0 {
		side = append(side, a.extra)
	} else {
		others = append(others, a.extra)
	}
	kind := a.random.IntN(3)
	var held, last []wire
	for _, x := range between(side, others) {
		switch {
		case kind == 0 && a.random.IntN(3) == 0: // some of them, in any order
		case kind == 1 && (x.to != victim.id || x.dialled): // answers come first
			last = append(last, x)
		default:
			held = append(held, x)
		}
	}
	pause := func(most int) {
		select {
		case <-time.After(time.Duration(1+a.random.IntN(most)) * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	a.wires.set(true, held...)
	pause(100)
	a.wires.set(true, last...)
	if a.random.IntN(4) > 0 {
		_ = others[a.random.IntN(2)].current().campaignNow() // it may not be a follower just now
	}
	pause(400)
	for _, x := range append(held, last...) { // what was held comes back piece by piece
		a.wires.set(false, x)
		if a.random.IntN(4) == 0 {
			pause(150)
		}
	}
	pause(300)
}

// history is what the clients did, and when.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// input is one operation: put and get of a register, or end and renew of a session,
// which is a register that says whether it has ended.
type input struct{ verb, key, value string }

type output struct {
	value string
	term  uint64 // of the leader that gave it; not part of the model
}

// client writes and reads in turn, at any voter, until ctx ends.
func (h *history) client(ctx context.Context, id int, members []*member) {
	random := rand.New(rand.NewPCG(5, uint64(id)))
	for n := 0; ctx.Err() == nil; n++ {
		m := members[random.IntN(len(members))]
		in := input{verb: "put", key: fmt.Sprint("k", n/40), value: fmt.Sprint(id, ".", n)}
		switch random.IntN(6) {
		case 0, 1:
			in.verb = "get"
		case 2, 3:
			in = input{verb: "renew", key: fmt.Sprint("s", n/20)}
		case 4:
			in = input{verb: "end", key: fmt.Sprint("s", n/20), value: "ended"}
		}
		op := porcupine.Operation{ClientId: id, Input: in, Call: time.Since(h.began).Nanoseconds()}
		out, err := in.do(m)
		op.Output, op.Return = out, time.Since(h.began).Nanoseconds()
		switch {
		case err == nil:
		case errors.Is(err, api.ErrUnknownWrite): // it may take effect at any time after
			op.Return = math.MaxInt64
		default:
			time.Sleep(time.Millisecond) // nobody leads here
			continue
		}
		h.mu.Lock()
		h.ops = append(h.ops, op)
		h.mu.Unlock()
	}
}

func (in input) do(m *member) (output, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	if in.verb == "put" || in.verb == "end" {
		_, err := m.Propose(ctx, Command{Data: []byte(in.key + "=" + in.value)})
		return output{}, err
	}
	term, leads := m.current().leads()
	if !leads || m.ready(term) != nil {
		return output{}, api.ErrNoLeader
	}
	if err := m.VerifyLeader(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = api.ErrNoLeader
		}
		return output{}, err
	}
	if now, _ := m.current().leads(); now != term {
		return output{}, api.ErrNoLeader // the barrier was of another leadership
	}
	out := output{term: term}
	for _, line := range m.tape.Lines() {
		if key, value, _ := strings.Cut(line, "="); key == in.key {
			out.value = value
		}
	}
	return out, nil
}

// ready does the barrier of a term, once.
func (m *member) ready(term uint64) error {
	m.barriers.Lock()
	defer m.barriers.Unlock()
	if m.barrier == term {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := m.Barrier(ctx); err != nil {
		return err
	}
	if now, leads := m.current().leads(); !leads || now != term {
		return api.ErrNoLeader
	}
	m.barrier = term
	return nil
}

// registers are what their users see: a read gives what was written last.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) (out [][]porcupine.Operation) {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		if op := in.(input); op.verb == "put" || op.verb == "end" {
			return true, op.value
		}
		return out.(output).value == state, state
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " -> ", out) },
}
