package main

import (
	"net/http"
	"syscall"
	"time"
)

// start takes the time until a new server is of use, and what it costs idle.
func start(r *run) {
	t0 := time.Now()
	a := r.single()
	f := figures{"usable_ms": ms(time.Since(t0)), "start_cpu_s": a.pids().cpu()}
	r.pass(5 * r.o.d)
	f["idle_mb"] = a.pids().rss()
	cpu := a.pids().cpu()
	r.pass(10 * r.o.d)
	f["idle_cpu_percent"] = (a.pids().cpu() - cpu) / (10 * r.o.d).Seconds() * 100
	r.emit("start", "", f)
}

// failover kills the leader of three servers, or pauses it, and takes the time
// until a write that was sent after that to one of the others is accepted.
func failover(r *run) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		c := r.start(3, 0)
		leader, others := split(c)
		r.settle(c.pids())
		r.pass(r.o.d / 2)
		leader.signal(sig)
		r.emit("failover", "leader="+map[syscall.Signal]string{syscall.SIGKILL: "killed", syscall.SIGSTOP: "paused"}[sig], figures{"next_write_ms": ms(r.nextWrite(others))})
	}
}

// nextWrite sends one write after the other, 10 ms apart, until one is accepted.
func (r *run) nextWrite(to cluster) (after time.Duration) {
	t0, accepted := time.Now(), make(chan time.Duration, 1)
	sent := 0
	r.await("accepted write", func() bool {
		for ; time.Since(t0) >= time.Duration(sent)*10*time.Millisecond; sent++ {
			c := dial(to[sent%len(to)].addr)
			r.wg.Go(func() {
				defer c.close()
				if _, err := c.ask(http.MethodPut, "/v1/kv/bench/failover", []byte("x")); err == nil {
					select {
					case accepted <- time.Since(t0):
					default: // another was first
					}
				}
			})
		}
		select {
		case after = <-accepted:
			return true
		default:
			return false
		}
	})
	return after
}
