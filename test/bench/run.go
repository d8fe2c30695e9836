package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxWait is how long something may take to happen, and setTime a set.
const (
	maxWait = 60 * time.Second
	setTime = 10 * time.Minute
)

// A run takes one set of one column. Like a testing.T it ends at the first failure,
// by check; its processes, goroutines and files are gone after it.
type run struct {
	ctx   context.Context // ends with the time of the set, or by a signal
	o     *options
	col   *column
	net   *loopback
	dir   string
	emit  func(bench, params string, f figures)
	wg    sync.WaitGroup // goroutines that end when the agents do
	mu    sync.Mutex
	procs []*process
}

// failure is what check throws and take catches.
type failure struct{ error }

// check ends the run if there is an error. It is not for goroutines that a set
// starts: they give their errors to it.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// take runs one set. When ctx ends, all that it has started is killed, by which
// whatever waits for an answer ends too.
func take(ctx context.Context, o *options, col *column, net *loopback, set func(*run), emit func(string, string, figures) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, setTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &run{ctx: ctx, o: o, col: col, net: net, dir: dir}
	r.emit = func(bench, params string, f figures) { check(errors.Join(ctx.Err(), emit(bench, params, f))) }
	defer func() {
		r.killAll()
		r.wg.Wait()
		switch thrown := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%w%s", thrown, r.lastWords())
		default:
			panic(thrown)
		}
	}()
	defer context.AfterFunc(ctx, r.killAll)()
	set(r)
	return nil
}

func (r *run) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.procs {
		p.kill()
	}
}

// lastWords are the ends of what the processes have written.
func (r *run) lastWords() string {
	var b strings.Builder
	for _, p := range r.procs {
		log, _ := os.ReadFile(p.log)
		if log = bytes.TrimSpace(log); len(log) > 0 {
			fmt.Fprintf(&b, "\n-- %s\n%s", filepath.Base(p.log), log[max(0, len(log)-500):])
		}
	}
	return b.String()
}

// sizes are those that the options allow.
func (r *run) sizes(all ...int) []int {
	for i, n := range all {
		if n >= r.o.most {
			return append(all[:i:i], r.o.most)
		}
	}
	return all
}

// repeat calls f up to n times, with a pause between, as long as there is time. It
// gives the number of calls.
func (r *run) repeat(n int, f func(i int)) float64 {
	began := time.Now()
	for i := range n {
		if i > 0 && time.Since(began) > 8*r.o.d {
			return float64(i)
		}
		f(i)
		r.pass(r.o.d / 10)
	}
	return float64(n)
}

// pass lets time pass, less if the run ends.
func (r *run) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// await polls until ok holds. It is in vain once one of by has ended.
func (r *run) await(what string, ok func() bool, by ...*process) {
	for t0 := time.Now(); !ok(); r.pass(time.Millisecond) {
		check(r.ctx.Err())
		for _, p := range by {
			select {
			case <-p.done:
				check(fmt.Errorf("wait for %s: %v: %v", what, p.cmd, p.cmd.ProcessState))
			default:
			}
		}
		if time.Since(t0) > maxWait {
			check(fmt.Errorf("no %s within %v", what, maxWait))
		}
	}
}

// settle waits until processes use little of the CPU, so that what comes is not
// charged with what went before; five seconds at most.
func (r *run) settle(p pids) {
	step, last := min(200*time.Millisecond, r.o.d/2), -1.0
	for range 25 {
		r.pass(step)
		now := p.cpu()
		if last >= 0 && now-last <= 0.02 {
			return
		}
		last = now
	}
}

// A cluster is the agents of a run.
type cluster []*agent

type agent struct {
	*process
	ip, addr string
}

func (c cluster) pids() (all pids) {
	for _, a := range c {
		all = append(all, a.pids()...)
	}
	return all
}

// single is one agent, a server with data on disk.
func (r *run) single() *agent { return r.start(1, 0)[0] }

// start ends what runs, starts agents and waits until each knows the leader and
// all members, and the first accepts a write.
func (r *run) start(servers, clients int) (c cluster) {
	r.killAll()
	config := filepath.Join(r.dir, "agent.json")
	check(os.WriteFile(config, []byte(agentConfig), 0o644))
	for i := range servers + clients {
		n := node{name: fmt.Sprintf("bench-%d", i), ip: r.net.next(), config: config}
		if i < servers {
			n.servers = servers
		}
		if n.join = n.ip; i > 0 {
			n.join = c[0].ip
		}
		n.dir = filepath.Join(r.dir, n.ip)
		check(os.Mkdir(n.dir, 0o700))
		c = append(c, &agent{r.spawn(r.col.command(n)...), n.ip, n.ip + ":" + r.col.port})
	}
	for _, a := range c {
		r.await("agent with a leader and all members at "+a.addr, func() bool { return r.knows(a.addr, len(c)) }, a.process)
	}
	r.await("accepted write at "+c[0].addr, func() bool {
		conn := dial(c[0].addr)
		defer conn.close()
		_, err := conn.ask(r.col.put("bench/probe", []byte("x")))
		return err == nil
	}, c[0].process)
	return c
}

// knows says whether an agent knows its leader and so many members that live.
func (r *run) knows(addr string, members int) bool {
	if r.col.only != "" { // not an agent
		return true
	}
	if leader(addr) == "" {
		return false
	}
	if members == 1 {
		return true
	}
	var list []struct{ Status int }
	fetch(addr, "/v1/agent/members", &list)
	for _, m := range list {
		if m.Status == 1 {
			members--
		}
	}
	return members == 0
}

// leader is the address of the leader's server port as an agent knows it, or "".
func leader(addr string) (leader string) {
	fetch(addr, "/v1/status/leader", &leader)
	return leader
}

// fetch leaves v as it is where there is no answer yet.
func fetch(addr, path string, v any) {
	c := dial(addr)
	defer c.close()
	if resp, err := c.ask(http.MethodGet, path, nil); err == nil {
		_ = json.Unmarshal(resp.body, v)
	}
}

// split puts the leader apart from the others.
func split(c cluster) (first *agent, others cluster) {
	at := leader(c[0].addr)
	for _, a := range c {
		if strings.HasPrefix(at, a.ip+":") {
			first = a
		} else {
			others = append(others, a)
		}
	}
	if first == nil {
		check(errors.New("the leader '" + at + "' is none of the agents"))
	}
	return first, others
}
