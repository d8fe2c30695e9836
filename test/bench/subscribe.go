package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// subscribe opens ten streams that follow thousands of keys each, the same ones or
// each its own, and takes the memory of the agent for one followed key.
func subscribe(r *run) {
	if r.col.name == "consul" {
		check(errors.ErrUnsupported)
	}
	n := min(5000, r.o.most)
	for _, keys := range []string{"same", "own"} {
		a := r.single()
		before := a.pids().rss()
		for stream := range 10 {
			group := "0"
			if keys == "own" {
				group = fmt.Sprint(stream)
			}
			defer follow(a.addr, group, n).Body.Close()
		}
		r.settle(a.pids())
		r.emit("subscribe", fmt.Sprintf("keys=%s n=%d", keys, n), figures{"kb_per_query": (a.pids().rss() - before) * 1024 / float64(10*n)})
	}
}

// follow opens a stream that follows n keys and reads until it has all of them.
func follow(addr, group string, n int) *http.Response {
	type query struct{ ID, Path string }
	var sub struct{ Queries []query }
	for i := range n {
		sub.Queries = append(sub.Queries, query{fmt.Sprint(i), fmt.Sprintf("/v1/kv/bench/subscribe/%s/%d", group, i)})
	}
	resp := must(http.Post("http://"+addr+"/v1/subscribe", "application/json", bytes.NewReader(must(json.Marshal(sub)))))
	frames := json.NewDecoder(resp.Body)
	for got := 0; got < n; {
		var frame struct{ Results []struct{ ID string } }
		if err := frames.Decode(&frame); err != nil {
			check(fmt.Errorf("a stream, status %d, after %d of %d results: %w", resp.StatusCode, got, n, err))
		}
		got += len(frame.Results)
	}
	return resp
}
