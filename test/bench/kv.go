package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// fsync appends one small record after the other to a file, each on disk before
// the next: no durable write of one client can be faster.
func fsync(r *run) {
	file := must(os.Create(filepath.Join(r.dir, "fsync")))
	defer file.Close()
	f := r.load(1, nil, func(int) (func() error, func()) {
		return func() error {
			if _, err := file.Write(make([]byte, 256)); err != nil {
				return err
			}
			return syscall.Fdatasync(int(file.Fd()))
		}, func() {}
	})
	delete(f, "cpu_ms") // it is the client's
	r.emit("fsync", "", f)
}

// kvPut writes new keys.
func kvPut(r *run) {
	a := r.single()
	for _, c := range r.sizes(1, 64, 256) {
		r.put(fmt.Sprintf("c=%d", c), a, a.pids(), c)
	}
}

func (r *run) put(params string, a *agent, on pids, clients int) {
	value := bytes.Repeat([]byte("v"), 128)
	r.emit("kv-put", params, r.load(clients, on, func(i int) (func() error, func()) {
		c, n := dial(a.addr), 0
		return func() error {
			n++
			_, err := c.ask(r.col.put(fmt.Sprintf("bench/put/%s/%d/%d/%d", a.ip, clients, i, n), value))
			return err
		}, c.close
	}))
}

// kvGet reads keys that are there.
func kvGet(r *run) {
	a := r.single()
	for _, consistency := range []string{"default", "stale", "consistent"} {
		r.get("consistency="+consistency, a, a.pids(), consistency)
	}
}

func (r *run) get(params string, a *agent, on pids, consistency string) {
	value, keys := bytes.Repeat([]byte("v"), 128), min(1000, r.o.most)
	key := func(i int) string { return fmt.Sprintf("bench/get/%d", i%keys) }
	each(a.addr, keys, func(c *conn, i int) error {
		_, err := c.ask(r.col.put(key(i), value))
		return err
	})
	r.settle(on)
	r.emit("kv-get", params, r.load(min(64, r.o.most), on, func(i int) (func() error, func()) {
		c, n := dial(a.addr), i*7919
		return func() error {
			n++
			_, err := c.ask(r.col.get(key(n), consistency))
			return err
		}, c.close
	}))
}

// threeServers writes and reads through the leader and through a follower; the
// CPU is that of all three.
func threeServers(r *run) {
	c := r.start(3, 0)
	leader, others := split(c)
	for i, a := range []*agent{leader, others[0]} {
		via := "via=" + []string{"leader", "follower"}[i]
		for _, clients := range r.sizes(1, 64) {
			r.put(fmt.Sprintf("%s c=%d", via, clients), a, c.pids(), clients)
		}
		for _, consistency := range []string{"default", "stale"} {
			r.get(via+" consistency="+consistency, a, c.pids(), consistency)
		}
	}
}
