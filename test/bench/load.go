package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is a closed loop: c workers, each of which begins its next operation when
// the last one has been answered. Half of d goes by before the measurement.
// worker gives the operation of one of them, and what ends it.
func (r *run) load(c int, on pids, worker func(i int) (op func() error, done func())) figures {
	const (
		warming = iota
		measuring
		stopping
	)
	var (
		phase atomic.Int32
		ended atomic.Int64 // operations, also those that failed
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		errs  []error
	)
	for i := range c {
		wg.Go(func() {
			op, done := worker(i)
			defer done()
			var mine []time.Duration
			var failed []error
			for now := phase.Load(); now != stopping; now = phase.Load() {
				t0 := time.Now()
				err := op()
				if err != nil {
					failed = append(failed, err)
					ended.Add(1)
					r.pass(10 * time.Millisecond)
				} else if now == measuring && phase.Load() == measuring {
					mine = append(mine, time.Since(t0))
					ended.Add(1)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, mine...), append(errs, failed...)
		})
	}
	r.pass(r.o.d / 2)
	cpu, t0 := on.cpu(), time.Now()
	phase.Store(measuring)
	r.pass(r.o.d)
	for waited := time.Now(); ended.Load() == 0 && r.ctx.Err() == nil && time.Since(waited) < maxWait; {
		r.pass(time.Millisecond) // a short load on a busy machine
	}
	phase.Store(stopping)
	took := time.Since(t0).Seconds()
	cpu = on.cpu() - cpu
	wg.Wait()
	if len(errs) > 0 {
		check(fmt.Errorf("%d operations failed, %d were answered: %w", len(errs), len(all), errs[0]))
	}
	if len(all) == 0 {
		check(errors.New("no operation has ended"))
	}
	n := float64(len(all))
	f := figures{"rps": n / took, "cpu_ms": cpu / n * 1000}
	f.latencies("", all)
	return f
}

// latencies adds median and 99th percentile, in milliseconds.
func (f figures) latencies(prefix string, samples []time.Duration) {
	slices.Sort(samples)
	for name, q := range map[string]float64{"p50_ms": 0.50, "p99_ms": 0.99} {
		if n := len(samples); n > 0 {
			f[prefix+name] = ms(samples[max(0, int(math.Ceil(q*float64(n)))-1)])
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// each calls f with 0 to n-1, through several connections at a time.
func each(addr string, n int, f func(c *conn, i int) error) {
	const width = 32
	var next atomic.Int64
	ends := make(chan error, width)
	for range width {
		go func() {
			c := dial(addr)
			defer c.close()
			var err error
			for i := int(next.Add(1)) - 1; i < n && err == nil; i = int(next.Add(1)) - 1 {
				err = f(c, i)
			}
			ends <- err
		}()
	}
	var err error
	for range width {
		err = errors.Join(err, <-ends)
	}
	check(err)
}
