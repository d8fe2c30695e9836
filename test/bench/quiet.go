package main

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// quiet parks watchers, each on a thing of its own, and writes at a steady rate
// what none of them watches: every response is a false wake.
func quiet(r *run) {
	a := r.single()
	register(a.addr, "bench-unrelated", 1)
	put := func(path string) func(*conn, int) error {
		return func(c *conn, i int) error {
			_, err := c.ask(http.MethodPut, fmt.Sprintf("/v1/kv/bench/quiet/"+path, i), []byte("x"))
			return err
		}
	}
	add := func(c *conn, i int) error {
		return instance{service: fmt.Sprintf("bench-quiet-%d", i), node: "bench-node-q", tag: "v1"}.register(c)
	}
	for _, q := range []struct {
		watch, churn, path string // of watcher %d
		make               func(c *conn, i int) error
	}{
		{watch: "nothing", churn: "key"},
		{"key", "key", "kv/bench/quiet/key/%d?", put("key/%d")},
		{"missing-key", "key", "kv/bench/quiet/missing/%d?", nil},
		{"prefix", "key", "kv/bench/quiet/prefix/%d/?recurse&", put("prefix/%d/x")},
		{"service", "service", "health/service/bench-quiet-%d?passing&", add},
		{"missing-service", "service", "health/service/bench-missing-%d?passing&", nil},
		{"service", "check", "health/service/bench-quiet-%d?passing&", add},
		{"services", "check", "catalog/services?", nil},
	} {
		if r.col.only != "" && q.watch != "nothing" && q.watch != "key" {
			continue // more than a trivial server does
		}
		n := min(1000, r.o.most)
		if q.watch == "nothing" {
			n = 0
		}
		if q.make != nil {
			each(a.addr, n, q.make)
		}
		f := r.quietly(a, n, q.path, q.churn)
		r.emit("quiet", fmt.Sprintf("watch=%s write=%s n=%d", q.watch, q.churn, n), f)
	}
}

func (r *run) quietly(a *agent, n int, path, churn string) figures {
	conns := park(a.addr, n)
	var wakes atomic.Int64
	var failed atomic.Pointer[error]
	var over atomic.Bool
	for i, c := range conns {
		r.wg.Go(func() {
			if err := watch(c, strings.Replace(path, "%d", fmt.Sprint(i), 1), &wakes); !over.Load() {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	r.settle(a.pids())
	r.settle(a.pids())

	wakes.Store(0)
	writer := dial(a.addr)
	defer writer.close()
	pace := time.Second / 200
	if churn == "key" {
		pace = time.Second / 500
	}
	var writes []time.Duration
	cpu, t0 := a.pids().cpu(), time.Now()
	for time.Since(t0) < r.o.d {
		r.pass(time.Until(t0.Add(time.Duration(len(writes)) * pace)))
		sent := time.Now()
		check(disturb(writer, churn, len(writes)))
		writes = append(writes, time.Since(sent))
	}
	count := float64(len(writes))
	f := figures{
		"rps": count / time.Since(t0).Seconds(), "cpu_ms": (a.pids().cpu() - cpu) / count * 1000,
		"wakes_per_write": float64(wakes.Load()) / count, "parked_mb": a.pids().rss(),
	}
	f.latencies("write_", writes)
	over.Store(true)
	unpark(conns)
	if err := failed.Load(); err != nil {
		check(fmt.Errorf("a watcher of %s: %w", path, *err))
	}
	return f
}

// watch counts the wakes of one watcher until its connection is closed.
func watch(c *conn, path string, wakes *atomic.Int64) error {
	for index := uint64(0); ; wakes.Add(1) {
		if err := c.send(http.MethodGet, fmt.Sprintf("/v1/%sindex=%d&wait=300s", path, index), nil); err != nil {
			return err
		}
		resp, err := c.receive()
		if err != nil {
			return err
		}
		if resp.status != http.StatusOK && resp.status != http.StatusNotFound {
			return fmt.Errorf("status %d: %.200s", resp.status, resp.body)
		}
		index = cmp.Or(resp.index, 1)
	}
}

// disturb is the nth write of what nobody watches: of a key, an instance's tag, or
// the status of its check.
func disturb(c *conn, churn string, n int) error {
	in := instance{service: "bench-unrelated", node: "bench-node-0", tag: "v1"}
	switch churn {
	case "service":
		in.tag = fmt.Sprint(n)
	case "check":
		in.status = [...]string{"passing", "critical"}[n%2]
	default:
		_, err := c.ask(http.MethodPut, "/v1/kv/bench/unrelated", fmt.Append(nil, n))
		return err
	}
	return in.register(c)
}
