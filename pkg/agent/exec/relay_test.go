package exec

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

func chunksOf(words ...string) []api.ExecChunk {
	var out []api.ExecChunk
	for _, w := range words {
		out = append(out, api.ExecChunk{Stream: api.ExecStdout, Data: []byte(w)})
	}
	return out
}

func text(out []api.ExecOutput) string {
	var b strings.Builder
	for _, o := range out {
		fmt.Fprintf(&b, "%s@%d", o.Node, o.Seq)
		for _, c := range o.Chunks {
			fmt.Fprintf(&b, " %s", c.Data)
		}
		b.WriteString("; ")
	}
	return b.String()
}

func TestRelayPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := NewRelay(), t.Context()
		if next := r.Push(ctx, "j", "A", 0, chunksOf("a", "b")); next != 2 {
			t.Errorf("next is %d", next)
		}
		if next := r.Push(ctx, "j", "a", 5, chunksOf("x")); next != 2 {
			t.Errorf("after a gap next is %d", next)
		}
		rd := r.Read("j", nil)
		defer rd.Close()
		if out, err := rd.Next(ctx, time.Second); err != nil || text(out) != "A@0 a b; " {
			t.Errorf("got %s, %v", text(out), err)
		}
		if out, err := rd.Next(ctx, time.Second); err != nil || len(out) != 0 {
			t.Errorf("got %s, %v", text(out), err)
		}
		if r.size != 0 {
			t.Errorf("%d bytes are kept that everybody has", r.size)
		}
		go r.Push(ctx, "j", "a", 2, chunksOf("c"))
		if out, err := rd.Next(ctx, time.Second); err != nil || text(out) != "A@2 c; " {
			t.Errorf("got %s, %v", text(out), err)
		}
	})
}

// A new leader's relay is empty: the node learns where the reader stands, and that
// it is wanted, also when it had sent everything.
func TestRelayStartsInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := NewRelay(), t.Context()
		wanted := make(chan []string)
		go func() { wanted <- r.Wanted(ctx, "a", []string{"i", "j"}) }()
		synctest.Wait()
		rd := r.Read("j", map[string]uint64{"A": 3})
		defer rd.Close()
		if got := <-wanted; !slices.Equal(got, []string{"j"}) {
			t.Errorf("wanted are %v", got)
		}
		if next := r.Push(ctx, "j", "a", 7, nil); next != 3 {
			t.Errorf("next is %d", next)
		}
		r.Push(ctx, "j", "a", 3, chunksOf("d"))
		if out, _ := rd.Next(ctx, time.Second); text(out) != "A@3 d; " {
			t.Errorf("got %s", text(out))
		}
		if got := r.Wanted(ctx, "a", []string{"j"}); got != nil {
			t.Errorf("still wanted are %v", got)
		}
		late := r.Read("j", map[string]uint64{"a": 0}) // another reader, from the beginning
		defer late.Close()
		if got := r.Wanted(ctx, "a", []string{"j"}); !slices.Equal(got, []string{"j"}) {
			t.Errorf("wanted are %v", got)
		}
	})
}

func TestRelayIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := NewRelay(), t.Context()
		large := chunksOf(strings.Repeat("x", relayWindow))
		if next := r.Push(ctx, "j", "a", 0, large); next != 1 {
			t.Fatalf("next is %d", next)
		}
		began := time.Now()
		if next := r.Push(ctx, "j", "a", 1, large); next != 1 || time.Since(began) != relayMaxWait {
			t.Errorf("next is %d after %v", next, time.Since(began))
		}
		rd := r.Read("j", nil) // makes room, and says so to who was turned away
		defer rd.Close()
		if out, _ := rd.Next(ctx, time.Second); len(out) != 1 {
			t.Errorf("got %d", len(out))
		}
		if got := r.Wanted(ctx, "a", []string{"j"}); !slices.Equal(got, []string{"j"}) {
			t.Errorf("wanted are %v", got)
		}
		for i := range MaxRelayed/relayWindow + 10 {
			r.Push(ctx, fmt.Sprint("other", i), "a", 0, large)
		}
		if r.size > MaxRelayed {
			t.Errorf("%d bytes are held", r.size)
		}
	})
}

// Nodes that send as they can, leaders that forget everything, a reader that comes
// again: it reads all that was written, once and in order.
func TestRelayLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		relay, have := NewRelay(), map[string]uint64{"a": 0, "b": 0}
		var written, read = map[string][]string{}, map[string][]string{}
		at := map[string]uint64{}
		rd := relay.Read("j", have)
		node := rapid.SampledFrom([]string{"a", "b"})
		send := func(n string) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // no waiting
			at[n] = relay.Push(ctx, "j", n, at[n], chunksOf(written[n][min(int(at[n]), len(written[n])):]...))
		}
		take := func() {
			for {
				out, _ := rd.poll()
				if len(out) == 0 {
					return
				}
				for _, o := range out {
					if o.Seq != uint64(len(read[o.Node])) {
						rt.Fatalf("%s begins at %d, %d are read", o.Node, o.Seq, len(read[o.Node]))
					}
					for _, c := range o.Chunks {
						read[o.Node] = append(read[o.Node], string(c.Data))
					}
				}
			}
		}
		again := func() {
			for n, words := range read {
				have[n] = uint64(len(words))
			}
			rd = relay.Read("j", have)
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				n := node.Draw(rt, "node")
				written[n] = append(written[n], fmt.Sprint(len(written[n])))
			case 2:
				send(node.Draw(rt, "node"))
			case 3:
				take()
			case 4:
				relay = NewRelay()
				again()
			case 5:
				rd.Close()
				again()
			}
		}
		for _, n := range []string{"a", "b"} {
			for range 3 {
				send(n) // as wanted, learns, sends
			}
		}
		take()
		for n, words := range written {
			if !slices.Equal(read[n], words) {
				rt.Fatalf("%s wrote %v, read is %v", n, words, read[n])
			}
		}
	})
}

func TestRelayUnderLoad(t *testing.T) {
	r, ctx := NewRelay(), t.Context()
	const nodes, each = 8, 400
	var senders sync.WaitGroup
	for n := range nodes {
		senders.Go(func() {
			for seq := uint64(0); seq < each; {
				seq = r.Push(ctx, "j", fmt.Sprint("n", n), seq, chunksOf(strings.Repeat("x", 20<<10)))
			}
		})
	}
	rd := r.Read("j", nil)
	defer rd.Close()
	for got := 0; got < nodes*each; {
		out, err := rd.Next(ctx, time.Minute)
		if err != nil || len(out) == 0 {
			t.Fatalf("%d of %d: %v", got, nodes*each, err)
		}
		for _, o := range out {
			got += len(o.Chunks)
		}
	}
	senders.Wait()
}
