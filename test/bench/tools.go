package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// envexec takes the time from the change of a key to the child that is started
// again with it in its environment.
func envexec(r *run) {
	a := r.single()
	out, child := filepath.Join(r.dir, "value"), filepath.Join(r.dir, "child")
	script := fmt.Sprintf("#!/bin/sh\nprintf %%s \"$BENCH_V\" >%[1]s.new && mv %[1]s.new %[1]s && exec sleep 600\n", out)
	check(os.WriteFile(child, []byte(script), 0o755))
	c := dial(a.addr)
	defer c.close()
	set := func(value string) (seen func() bool) {
		must(c.ask(http.MethodPut, "/v1/kv/bench/env/BENCH_V", []byte(value)))
		return file(out, func(b []byte) bool { return string(b) == value })
	}
	there := set("first")
	t0 := time.Now()
	tool := r.tool("envexec", "-consul-addr=", a, "-prefix=bench/env", child)
	r.await("child", there, tool)
	f := figures{"first_ms": ms(time.Since(t0)), "first_cpu_s": tool.pids().cpu()}
	r.settle(append(tool.pids(), a.pids()...))

	var took []time.Duration
	cpu := tool.pids().cpu()
	n := r.repeat(20, func(i int) {
		t0 := time.Now()
		r.await("child that is started again", set(fmt.Sprint("change-", i)), tool)
		took = append(took, time.Since(t0))
	})
	f["change_cpu_ms"], f["peak_mb"] = (tool.pids().cpu()-cpu)/n*1000, tool.pids().peak()
	f.latencies("change_", took)
	r.emit("envexec", "", f)
}

// lock runs the tool again and again, which takes a lock, runs true and releases
// it; and two of them at once, for the time between one's child and the other's.
func lock(r *run) {
	a := r.single()
	var took []time.Duration
	var used float64
	cpu, began := a.pids().cpu(), time.Now()
	for len(took) == 0 || time.Since(began) < r.o.d {
		t0 := time.Now()
		state := r.tool("lock", "-http-addr=", a, "-shell=false", "bench/lock", "true").succeed()
		took = append(took, time.Since(t0))
		used += (state.UserTime() + state.SystemTime()).Seconds() // with the child's
	}
	n := float64(len(took))
	f := figures{"rps": n / time.Since(began).Seconds(), "tool_cpu_ms": used / n * 1000, "cpu_ms": (a.pids().cpu() - cpu) / n * 1000}
	f.latencies("", took)
	r.emit("lock-cycle", "", f)

	var gaps []time.Duration
	r.repeat(5, func(i int) {
		key, held := fmt.Sprint("bench/hand-off/", i), [2][]time.Time{}
		for j, hold := range []time.Duration{r.o.d * 3 / 4, 0} {
			out := filepath.Join(r.dir, fmt.Sprint("held-", i, j))
			r.tool("lock", "-http-addr=", a, "-shell=false", key, self(), "stamp", out, hold.String())
			r.await("holder of the lock", func() bool { return len(stamps(out)) > 0 })
			held[0], held[1] = stamps(filepath.Join(r.dir, fmt.Sprint("held-", i, 0))), stamps(out)
		}
		if len(held[0]) < 2 {
			check(errors.New("the second one held the lock before the first one had ended"))
		}
		gaps = append(gaps, held[1][0].Sub(held[0][1]))
	})
	f = figures{}
	f.latencies("", gaps)
	r.emit("lock-hand-off", "", f)
}

// remoteExec runs true on every agent of a few.
func remoteExec(r *run) {
	for _, clients := range r.sizes(2, 9) {
		c := r.start(1, clients)
		r.settle(c.pids())
		r.pass(r.o.d / 2) // a new cluster has more to do for a while
		var took []time.Duration
		cpu, complete := c.pids().cpu(), 0.0
		n := r.repeat(3, func(int) {
			t0 := time.Now()
			tool := r.tool("exec", "-http-addr=", c[0], "true")
			tool.succeed()
			took = append(took, time.Since(t0))
			if strings.Contains(string(must(os.ReadFile(tool.log))), fmt.Sprintf("%d / %[1]d node(s) completed", len(c))) {
				complete++
			}
		})
		f := figures{"complete": complete / n, "agents_cpu_ms": (c.pids().cpu() - cpu) / n * 1000}
		f.latencies("", took)
		r.emit("exec", fmt.Sprintf("agents=%d", len(c)), f)
	}
}

// stamp FILE [HOLD] appends the time to a file, and once more after HOLD.
func stamp(args []string) error {
	now := time.Now()
	out, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, now.UnixNano())
	if len(args) > 1 {
		hold, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		time.Sleep(hold)
		fmt.Fprintln(out, time.Now().UnixNano())
	}
	return out.Close()
}

// stamps are the times that a file holds.
func stamps(name string) (all []time.Time) {
	b, _ := os.ReadFile(name) // it may not be there yet
	for line := range strings.Lines(string(b)) {
		if ns, err := strconv.ParseInt(strings.TrimSuffix(line, "\n"), 10, 64); err == nil {
			all = append(all, time.Unix(0, ns))
		}
	}
	return all
}
