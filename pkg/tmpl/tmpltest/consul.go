// Package tmpltest is a small stand-in for an agent, for tests of tools: a
// catalog and a key/value store in memory behind Consul's read paths, with
// indexes per object and honest blocking. It has no writes over HTTP, no ACLs,
// and one node.
package tmpltest

import (
	"encoding/json"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Node is the only node's name.
const Node = "n1"

// Consul is the stand-in; it is an http.Handler.
type Consul struct {
	mu      sync.Mutex
	index   uint64
	kv      map[string]*api.KVPair
	web     map[string]map[string]*api.CheckServiceNode // service -> id
	touched map[string]uint64                           // topic -> index
	fail    int                                         // status to answer with
	changed chan struct{}
	asked   int
}

// New makes an empty one.
func New() *Consul {
	return &Consul{
		index: 1, kv: map[string]*api.KVPair{}, web: map[string]map[string]*api.CheckServiceNode{},
		touched: map[string]uint64{}, changed: make(chan struct{}),
	}
}

// change runs fn at a new index, which the topics get.
func (c *Consul) change(fn func(index uint64), topics ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	fn(c.index)
	for _, t := range topics {
		c.touched[t] = c.index
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// SetKey writes a key.
func (c *Consul) SetKey(key, value string) {
	c.change(func(index uint64) {
		created := index
		if old := c.kv[key]; old != nil {
			created = old.CreateIndex
		}
		c.kv[key] = &api.KVPair{Key: key, Value: []byte(value), CreateIndex: created, ModifyIndex: index}
	}, kvTopics(key)...)
}

// DeleteKey removes a key.
func (c *Consul) DeleteKey(key string) {
	c.change(func(uint64) { delete(c.kv, key) }, kvTopics(key)...)
}

// SetService registers an instance with one check of that status.
func (c *Consul) SetService(name, id, address string, port int, status string) {
	topics := []string{"service " + name}
	c.mu.Lock()
	if c.web[name][id] == nil {
		topics = append(topics, "services")
	}
	c.mu.Unlock()
	c.change(func(index uint64) {
		if c.web[name] == nil {
			c.web[name] = map[string]*api.CheckServiceNode{}
		}
		c.web[name][id] = &api.CheckServiceNode{
			Node:    &api.Node{Node: Node, Address: "127.0.0.1", Datacenter: "dc1"},
			Service: &api.NodeService{ID: id, Service: name, Address: address, Port: port, Tags: []string{}, ModifyIndex: index},
			Checks:  []*api.HealthCheck{{Node: Node, CheckID: "service:" + id, Status: status, ServiceID: id, ServiceName: name}},
		}
	}, topics...)
}

// RemoveService deregisters an instance.
func (c *Consul) RemoveService(name, id string) {
	c.change(func(uint64) {
		delete(c.web[name], id)
		if len(c.web[name]) == 0 {
			delete(c.web, name)
		}
	}, "service "+name, "services")
}

// Fail makes every request, blocked ones too, end with the status; 0 ends that.
func (c *Consul) Fail(status int) { c.change(func(uint64) { c.fail = status }) }

// Asked is how many requests have come in.
func (c *Consul) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// kvTopics are the key itself and every prefix that it lies under.
func kvTopics(key string) []string {
	topics := []string{"key " + key, "prefix "}
	for i := range key {
		topics = append(topics, "prefix "+key[:i+1])
	}
	return topics
}

func (c *Consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	min, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		wait = 5 * time.Minute
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	for {
		if c.fail != 0 {
			http.Error(w, "No cluster leader", c.fail)
			return
		}
		value, index, known := c.read(r.URL.Path, r)
		if !known {
			http.NotFound(w, r)
			return
		}
		if min == 0 || index > min || index == 0 {
			c.answer(w, value, index)
			return
		}
		changed, expired := c.changed, false
		c.mu.Unlock()
		select {
		case <-changed:
		case <-limit.C:
			expired = true
		case <-r.Context().Done():
		}
		c.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
		if expired {
			c.answer(w, value, index)
			return
		}
	}
}

func (c *Consul) answer(w http.ResponseWriter, value any, index uint64) {
	if index > 0 {
		w.Header().Set(api.HeaderIndex, strconv.FormatUint(index, 10))
		w.Header().Set(api.HeaderKnownLeader, "true")
		w.Header().Set(api.HeaderLastContact, "0")
	}
	if value == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// read is what a path holds; a nil value is a 404, index 0 an answer that cannot
// block.
func (c *Consul) read(path string, r *http.Request) (value any, index uint64, known bool) {
	at := func(topic string) uint64 { return max(1, c.touched[topic]) }
	switch {
	case strings.HasPrefix(path, "/v1/kv/"):
		key := strings.TrimPrefix(path, "/v1/kv/")
		if r.URL.Query().Has("recurse") {
			return c.list(key), at("prefix " + key), true
		}
		if pair := c.kv[key]; pair != nil {
			return []*api.KVPair{pair}, at("key " + key), true
		}
		return nil, at("key " + key), true
	case strings.HasPrefix(path, "/v1/health/service/"):
		name := strings.TrimPrefix(path, "/v1/health/service/")
		return c.instances(name, r.URL.Query().Has("passing")), at("service " + name), true
	case path == "/v1/catalog/services":
		names := map[string][]string{}
		for name := range c.web {
			names[name] = []string{}
		}
		return names, at("services"), true
	case path == "/v1/catalog/nodes":
		return []*api.Node{{Node: Node, Address: "127.0.0.1", Datacenter: "dc1"}}, 1, true
	case path == "/v1/catalog/node/"+Node:
		return &api.NodeServices{Node: &api.Node{Node: Node, Address: "127.0.0.1"}, Services: map[string]*api.NodeService{}}, 1, true
	case path == "/v1/catalog/datacenters":
		return []string{"dc1"}, 0, true
	case path == "/v1/agent/self":
		return map[string]any{"Config": map[string]any{"NodeName": Node, "Datacenter": "dc1"}}, 0, true
	}
	return nil, 0, false
}

func (c *Consul) list(prefix string) any {
	var pairs []*api.KVPair
	for key, pair := range c.kv {
		if strings.HasPrefix(key, prefix) {
			pairs = append(pairs, pair)
		}
	}
	if pairs == nil {
		return nil
	}
	sort.Slice(pairs, func(i, j int) bool { return pairs[i].Key < pairs[j].Key })
	return pairs
}

func (c *Consul) instances(name string, passing bool) []*api.CheckServiceNode {
	out := []*api.CheckServiceNode{}
	for _, inst := range c.web[name] {
		if !passing || api.AggregatedStatus(inst.Checks) == api.HealthPassing {
			out = append(out, inst)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Service.ID < out[j].Service.ID })
	return out
}

// Transport reaches the stand-in without a network, so that tests can run in a
// synctest bubble.
func (c *Consul) Transport() http.RoundTripper { return direct{c} }

type direct struct{ c *Consul }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	d.c.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.response(r), nil
}
