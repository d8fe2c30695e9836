package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

func newProposal(key, data string) *proposal {
	return &proposal{Command: Command{Data: []byte(data), Groups: key != "", Key: key}, done: make(chan struct{})}
}

func dataOf(batch []*proposal) string {
	var all []string
	for _, p := range batch {
		all = append(all, string(p.Data))
	}
	return strings.Join(all, " ")
}

// TestCarrier: who comes alone leaves at once, what arrives meanwhile leaves
// together and in order, and who gives up before that was never proposed.
func TestCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches []string
		landed := make(chan struct{})
		c := &batcher{submit: func(batch []*proposal) {
			batches = append(batches, dataOf(batch))
			<-landed
		}}
		first, gone := newProposal("a", "1"), newProposal("c", "3")
		c.add(first)
		synctest.Wait()
		if !slices.Equal(batches, []string{"1"}) {
			t.Fatalf("a lone proposal is submitted as %q", batches)
		}
		c.add(newProposal("b", "2"))
		c.add(gone)
		c.add(newProposal("d", "4"))
		if c.withdraw(first) || !c.withdraw(gone) {
			t.Error("what has left can be withdrawn, or what has not cannot")
		}
		landed <- struct{}{}
		synctest.Wait()
		landed <- struct{}{}
		synctest.Wait()
		c.add(newProposal("e", "5"))
		landed <- struct{}{}
		synctest.Wait()
		if want := []string{"1", "2 4", "5"}; !slices.Equal(batches, want) {
			t.Errorf("batches %q, want %q", batches, want)
		}
	})
}

// TestFlightsAreBounded in commands and in bytes, but for a single large command.
func TestFlightsAreBounded(t *testing.T) {
	c := &batcher{running: true}
	large := strings.Repeat("x", maxBatchBytes/2+1)
	c.queue = []*proposal{newProposal("a", large+large), newProposal("b", large), newProposal("c", large)}
	for range maxBatchCommands {
		c.queue = append(c.queue, newProposal("d", "d"))
	}
	var sizes []int
	for batch := c.nextBatch(); batch != nil; batch = c.nextBatch() {
		sizes = append(sizes, len(batch))
	}
	if want := []int{1, 1, maxBatchCommands, 1}; !slices.Equal(sizes, want) || c.running {
		t.Errorf("batches of %v, want %v; running %v", sizes, want, c.running)
	}
}

// TestEntries: a command of a key that is there already opens the next entry, and
// what cannot share one has its own; the order stays.
func TestEntries(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"a1":                   "a1",
		"a1 b2 c3":             "a1 b2 c3",
		"a1 b2 a3 b4 c5 c6":    "a1 b2|a3 b4 c5|c6",
		"-1 a2 b3 -4 -5 a6 b7": "-1|a2 b3|-4|-5|a6 b7",
	} {
		var batch []*proposal
		for data := range strings.FieldsSeq(in) {
			batch = append(batch, newProposal(strings.TrimLeft(data[:1], "-"), data))
		}
		var got []string
		for _, entry := range splitEntries(batch) {
			got = append(got, dataOf(entry))
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q is cut into %q, want %q", in, got, want)
		}
	}
}

// TestLand: everybody gets his own result, or the error that all have in common.
func TestLand(t *testing.T) {
	for _, tc := range []struct {
		commands int
		future   landing
		want     string
	}{
		{1, landing{response: "x"}, "x"},
		{1, landing{response: []any{"x"}}, "[x]"},
		{2, landing{response: []any{"x", "y"}}, "x y"},
		{2, landing{response: []any{"x"}}, "error error"},
		{2, landing{response: errors.New("no such entry")}, "error error"},
		{2, landing{err: raft.ErrNotLeader}, "not proposed not proposed"},
		{2, landing{err: raft.ErrLeadershipLost}, "unknown unknown"},
	} {
		var entry []*proposal
		for range tc.commands {
			entry = append(entry, newProposal("", ""))
		}
		resolveEntry(entry, tc.future)
		var got []string
		for _, p := range entry {
			<-p.done
			switch {
			case errors.Is(p.err, api.ErrNoLeader):
				got = append(got, "not proposed")
			case errors.Is(p.err, api.ErrUnknownWrite):
				got = append(got, "unknown")
			case p.err != nil:
				got = append(got, "error")
			default:
				got = append(got, fmt.Sprint(p.result))
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%+v gives %q, want %q", tc.future, got, tc.want)
		}
	}
}

type landing struct {
	raft.ApplyFuture
	response any
	err      error
}

func (l landing) Error() error  { return l.err }
func (l landing) Response() any { return l.response }
func (l landing) Index() uint64 { return 9 }

// TestFlightsShareEntries: while the state machine hangs on one command, many more
// arrive. They take few entries, and each gets its own result, in order of arrival.
func TestFlightsShareEntries(t *testing.T) {
	c := newCluster(t)
	m := c.start("a", "")
	if err := m.Bootstrap(voters([]*member{m})); err != nil {
		t.Fatal(err)
	}
	c.leader([]*member{m})
	m.tape.mu.Lock()
	release := sync.OnceFunc(m.tape.mu.Unlock)
	defer release()
	before := commitIndex(m.Node)
	var wg sync.WaitGroup
	propose := func(i int) {
		wg.Go(func() {
			line := fmt.Sprint(i)
			result, err := m.Propose(context.Background(), Command{Data: []byte(line), Groups: true, Key: line})
			if err != nil || !strings.HasSuffix(fmt.Sprint(result), ":"+line) {
				t.Errorf("%d: %v, %v", i, result, err)
			}
		})
	}
	propose(0)
	until(t, "the first is committed", func() bool { return commitIndex(m.Node) > before })
	b := m.current().batcher
	for i := 1; i <= 50; i++ {
		propose(i)
		until(t, "it waits", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.queue) == i
		})
	}
	release()
	wg.Wait()
	if entries := commitIndex(m.Node) - before; entries != 2 {
		t.Errorf("51 commands took %d entries, want 2", entries)
	}
	lines := m.tape.Lines()
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			t.Fatalf("applied in the order %q", lines)
		}
	}
}
