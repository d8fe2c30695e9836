package main

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// wake parks watchers on one key, or on one service of ten instances, writes it,
// and takes the time from the write's acknowledgement to each response: 0 for one
// that was faster.
func wake(r *run) {
	a := r.single()
	idle := a.pids().rss()
	for _, n := range r.sizes(1, 100, 1000, 10000) {
		const path = "/v1/kv/bench/wake"
		r.wakeAll(a, n, idle, "key", path, func(c *conn) error {
			_, err := c.ask(http.MethodPut, path, []byte(time.Now().String()))
			return err
		})
	}
	register(a.addr, "bench-wake", 10)
	r.wakeAll(a, min(1000, r.o.most), idle, "service", "/v1/health/service/bench-wake", func(c *conn) error {
		return instance{service: "bench-wake", node: "bench-node-0", tag: time.Now().String()}.register(c)
	})
}

func (r *run) wakeAll(a *agent, n int, idle float64, what, path string, write func(*conn) error) {
	writer, conns := dial(a.addr), park(a.addr, n)
	defer writer.close()
	defer unpark(conns)
	check(write(writer))
	var woken, last, writes []time.Duration
	var cpu, parked float64
	r.repeat(10, func(int) {
		await := r.poll(conns, path, must(writer.ask(http.MethodGet, path, nil)).index)
		r.settle(a.pids())
		parked = a.pids().rss()
		before, sent := a.pids().cpu(), time.Now()
		check(write(writer))
		acked := time.Now()
		var worst time.Duration
		for _, t := range await() {
			if t.Before(sent) {
				check(errors.New("a watcher woke before there was a write"))
			}
			d := max(0, t.Sub(acked))
			woken, worst = append(woken, d), max(worst, d)
		}
		cpu += a.pids().cpu() - before
		last, writes = append(last, worst), append(writes, acked.Sub(sent))
	})
	f := figures{"cpu_ms": cpu / float64(len(woken)) * 1000}
	if what == "key" { // at a service the agent still has memory of more watchers
		f["parked_mb"], f["kb_per_poll"] = parked, (parked-idle)*1024/float64(n)
	}
	f.latencies("", woken)
	f.latencies("last_", last)
	f.latencies("write_", writes)
	r.emit("wake", fmt.Sprintf("watch=%s n=%d", what, n), f)
}

// poll sends a long poll on every connection; await gives the times of the answers.
func (r *run) poll(conns []*conn, path string, index uint64) (await func() []time.Time) {
	at, errs := make([]time.Time, len(conns)), make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		check(c.send(http.MethodGet, fmt.Sprintf("%s?index=%d&wait=120s", path, index), nil))
		wg.Add(1)
		r.wg.Go(func() {
			defer wg.Done()
			resp, err := c.receive()
			if at[i] = time.Now(); err == nil && resp.status != http.StatusOK {
				err = fmt.Errorf("a watcher: status %d: %.200s", resp.status, resp.body)
			}
			errs[i] = err
		})
	}
	return func() []time.Time {
		wg.Wait()
		check(errors.Join(errs...))
		return at
	}
}
