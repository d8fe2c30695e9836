package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// Writes and ?consistent reads of a few keys, through every server at once, are
// linearizable while the leader is killed, and while it is paused: a paused
// leader that wakes up must not answer from the past. So are default reads, as long
// as no leader can be mistaken about being one.
func TestLinearizable(t *testing.T) {
	for name, test := range map[string]struct {
		fault      func(t *testing.T, c *cluster)
		consistent bool
	}{
		"leader killed":                {killLeader, true},
		"leader killed, default reads": {killLeader, false},
		"leader paused":                {pauseLeader, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, 3, 0)
			h := &history{began: time.Now(), consistent: test.consistent}
			ctx, stop := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			for id := range 6 {
				clients.Go(func() { h.client(ctx, id, c.Agents) })
			}
			wait(t, time.Second)
			test.fault(t, c)
			wait(t, 2*time.Second)
			harness.Until(t, "enough operations to say something", func(context.Context) error {
				if reads, writes, _ := h.count(); reads < 100 || writes < 100 {
					return fmt.Errorf("%d reads, %d writes", reads, writes)
				}
				return nil
			})
			stop()
			clients.Wait()
			reads, writes, unknown := h.count()
			t.Logf("%d reads, %d writes acknowledged, %d of unknown outcome", reads, writes, unknown)
			if result := porcupine.CheckOperationsTimeout(registers, h.ops, 30*time.Second); result != porcupine.Ok {
				t.Errorf("the history is not linearizable: %v", result)
			}
		})
	}
}

func killLeader(t *testing.T, c *cluster) {
	a := c.Leader()
	a.Kill()
	wait(t, 4*time.Second)
	a.Start()
}

func pauseLeader(t *testing.T, c *cluster) {
	a := c.Leader()
	a.Signal(syscall.SIGSTOP)
	wait(t, 4*time.Second) // longer than an election takes
	a.Signal(syscall.SIGCONT)
}

// wait lets clients work for a while; nothing is waited for.
func wait(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// history is what the clients did, and when.
type history struct {
	began      time.Time
	consistent bool // how the clients read
	mu         sync.Mutex
	ops        []porcupine.Operation
}

type input struct {
	key   string
	write bool
	value string
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

func (h *history) add(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *history) count() (reads, writes, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		switch in := op.Input.(input); {
		case !in.write:
			reads++
		case op.Return == math.MaxInt64:
			unknown++
		default:
			writes++
		}
	}
	return
}

// client writes and reads in turn until ctx ends. Each write has a value of its
// own. A write whose outcome is not known may take effect at any time after.
func (h *history) client(ctx context.Context, id int, agents []*agent) {
	for n := 0; ctx.Err() == nil; n++ {
		a := agents[rand.IntN(len(agents))]
		in := input{key: fmt.Sprint("reg/", rand.IntN(3)), write: rand.IntN(2) == 0, value: fmt.Sprint(id, ".", n)}
		op := porcupine.Operation{ClientId: id, Input: in, Call: h.now()}
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		if in.write {
			_, err := a.KVPut(short, in.key, []byte(in.value), client.KVWrite{}, nil)
			op.Return, op.Output = h.now(), ""
			if err != nil {
				op.Return = math.MaxInt64
			}
			if err == nil || !errors.Is(err, api.ErrNoLeader) && !strings.Contains(err.Error(), "connection refused") {
				h.add(op)
			}
		} else if pair, _, err := a.KVGet(short, in.key, &client.Options{Consistent: h.consistent}); err == nil {
			op.Return, op.Output = h.now(), ""
			if pair != nil {
				op.Output = string(pair.Value)
			}
			h.add(op)
		}
		cancel()
	}
}

// registers are keys as their users see them: a read gives what was written last.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		if op := in.(input); op.write {
			return true, op.value
		}
		return out == state, state
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " -> ", out) },
}
