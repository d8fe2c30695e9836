package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// event fires user events at one of ten agents and takes the time until the last
// of them has told it: to a long poll, or to a handler that the watch tool runs.
func event(r *run) {
	c := r.start(1, min(9, r.o.most))
	var mu sync.Mutex
	told := make([][]time.Time, len(c))
	for i, a := range c {
		r.wg.Go(func() {
			conn := dial(a.addr)
			conn.parked = true
			defer conn.close()
			for index := uint64(0); ; {
				resp, err := conn.ask(http.MethodGet, fmt.Sprintf("/v1/event/list?name=bench&index=%d&wait=60s", index), nil)
				if err != nil {
					return // the agent has ended
				}
				if resp.index != index {
					index = resp.index
					mu.Lock()
					told[i] = append(told[i], time.Now())
					mu.Unlock()
				}
			}
		})
	}
	r.fire(c, "poll", func(i int) []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told[i])
	})

	c = r.start(1, min(9, r.o.most))
	out := func(i int) string { return filepath.Join(r.dir, fmt.Sprint("event-", i)) }
	var tools pids
	for i, a := range c {
		tool := r.tool("watch", "-http-addr=", a, "-type=event", "-name=bench", "-shell=false", self(), "stamp", out(i))
		tools = append(tools, tool.pids()...)
	}
	r.settle(tools)
	r.fire(c, "handler", func(i int) []time.Time { return stamps(out(i)) })
}

// fire takes the time of ten events; told gives the times at which agent i told one.
func (r *run) fire(c cluster, by string, told func(i int) []time.Time) {
	conn := dial(c[0].addr)
	defer conn.close()
	r.settle(c.pids())
	r.pass(r.o.d / 2)
	var each, last []time.Duration
	lost := 0
	r.repeat(10, func(round int) {
		before, took := make([]int, len(c)), make([]time.Duration, len(c))
		for i := range c {
			before[i] = len(told(i))
		}
		sent := time.Now()
		must(conn.ask(http.MethodPut, "/v1/event/fire/bench", fmt.Append(nil, round)))
		r.await("event", func() bool {
			missing := 0
			for i := range c {
				if took[i] > 0 {
					continue
				}
				if at := told(i); len(at) > before[i] {
					took[i] = at[before[i]].Sub(sent)
				} else {
					missing++
				}
			}
			if missing > 0 && time.Since(sent) < maxWait/4 {
				return false
			}
			lost += missing
			return true
		})
		took = slices.DeleteFunc(took, func(d time.Duration) bool { return d == 0 })
		each, last = append(each, took...), append(last, slices.Max(append(took, 0)))
	})
	f := figures{"lost": float64(lost)}
	f.latencies("", each)
	f.latencies("last_", last)
	r.emit("event", fmt.Sprintf("by=%s agents=%d", by, len(c)), f)
}
