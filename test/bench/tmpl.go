package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// allServices shows every instance by its tag, which the changes write.
const allServices = `{{range services}}{{range service .Name}}{{.Name}} {{.Address}}:{{.Port}} {{.Tags | join ","}}
{{end}}{{end}}`

// tmpl renders all services, three instances each: for the first time, and after
// the change of one tag.
func tmpl(r *run) {
	for _, n := range r.sizes(10, 100, 1000) {
		t := &rendering{r: r, agent: r.single(), total: 3 * n}
		each(t.agent.addr, t.total, func(c *conn, i int) error { return t.instance(i, "v1").register(c) })
		r.settle(t.agent.pids())
		f := figures{}
		t.take(f)
		t.count(f)
		r.emit("tmpl", fmt.Sprintf("n=%d", n), f)
	}
}

type rendering struct {
	r     *run
	agent *agent
	total int // instances
	tool  *process
	out   string
}

func (t *rendering) instance(i int, tag string) instance {
	return instance{service: fmt.Sprintf("bench-tmpl-%d", i/3), n: i % 3, node: fmt.Sprintf("bench-node-%d", i%3), tag: tag}
}

// first starts the tool and waits for its first file.
func (t *rendering) first(name string, a *agent) {
	in := filepath.Join(t.r.dir, "in.tpl")
	t.out = filepath.Join(t.r.dir, fmt.Sprintf("%s-%d", name, t.total))
	check(os.WriteFile(in, []byte(allServices), 0o644))
	t.tool = t.r.tool("tmpl", "-consul-addr=", a, "-template="+in+":"+t.out)
	t.r.await("first rendering", file(t.out, func(b []byte) bool { return bytes.Count(b, []byte("bench-tmpl-")) >= t.total }), t.tool)
}

// changes writes the tag of one instance after the other, and waits each time until
// the file has it.
func (t *rendering) changes(n int) (took []time.Duration) {
	c := dial(t.agent.addr)
	defer c.close()
	t.r.repeat(n, func(i int) {
		tag := fmt.Sprintf("change-%d-of-%d-", i, n)
		there := file(t.out, func(b []byte) bool { return bytes.Contains(b, []byte(tag)) })
		t0 := time.Now()
		check(t.instance(rand.IntN(t.total), tag).register(c))
		t.r.await("changed file", there, t.tool)
		took = append(took, time.Since(t0))
	})
	return took
}

func (t *rendering) take(f figures) {
	agent, t0 := t.agent.pids().cpu(), time.Now()
	t.first("out", t.agent)
	tool := t.tool.pids()
	f["first_ms"], f["first_cpu_s"], f["first_agent_cpu_s"] = ms(time.Since(t0)), tool.cpu(), t.agent.pids().cpu()-agent
	t.r.settle(append(tool, t.agent.pids()...))
	cpu, agent := tool.cpu(), t.agent.pids().cpu()
	took := t.changes(20)
	f["change_cpu_ms"] = (tool.cpu() - cpu) / float64(len(took)) * 1000
	f["change_agent_cpu_ms"] = (t.agent.pids().cpu() - agent) / float64(len(took)) * 1000
	f["peak_mb"] = tool.peak()
	f.latencies("change_", took)
	t.tool.kill()
}

// count does it once more behind a proxy that counts requests; it costs time, so
// none is taken.
func (t *rendering) count(f figures) {
	var requests atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: t.agent.addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // polls that the tool gives up
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		proxy.ServeHTTP(w, req)
	}))
	defer server.Close()
	defer t.agent.kill() // which ends what the server would wait for
	t.first("counted", &agent{addr: server.Listener.Addr().String()})
	first := requests.Load()
	f["first_requests"] = float64(first)
	f["change_requests"] = float64(requests.Load()-first) / float64(len(t.changes(5)))
}

// file says whether a file that has been written or replaced holds what ok wants.
func file(name string, ok func(content []byte) bool) func() bool {
	var seen os.FileInfo
	return func() bool {
		info, err := os.Stat(name)
		if err != nil || seen != nil && os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime()) && info.Size() == seen.Size() {
			return false
		}
		seen = info
		content, err := os.ReadFile(name)
		return err == nil && ok(content)
	}
}
