package sdk

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestKV(t *testing.T) {
	_, c := start(t, nil)
	kv := c.KV()
	put := func(t *testing.T, key, value string) {
		t.Helper()
		_, err := kv.Put(&api.KVPair{Key: key, Value: []byte(value)}, nil)
		must(t, err)
	}
	get := func(t *testing.T, key string) *api.KVPair {
		t.Helper()
		pair, _, err := kv.Get(key, nil)
		must(t, err)
		return pair
	}

	t.Run("put and get", func(t *testing.T) {
		value := bytes.Repeat([]byte{0, 1, 254, 255}, 1000)
		_, err := kv.Put(&api.KVPair{Key: "bin/a b+c%2F?d", Value: value, Flags: math.MaxUint64}, nil)
		must(t, err)
		pair, meta, err := kv.Get("bin/a b+c%2F?d", nil)
		must(t, err)
		if pair == nil || !bytes.Equal(pair.Value, value) || pair.Flags != math.MaxUint64 {
			t.Fatalf("read back %+v", pair)
		}
		if pair.CreateIndex == 0 || pair.CreateIndex != pair.ModifyIndex || meta.LastIndex != pair.ModifyIndex || !meta.KnownLeader {
			t.Errorf("pair %+v, meta %+v", pair, meta)
		}
	})
	t.Run("absent", func(t *testing.T) {
		pair, meta, err := kv.Get("absent", nil)
		if err != nil || pair != nil || meta.LastIndex == 0 {
			t.Errorf("%+v, %+v, %v", pair, meta, err)
		}
		pairs, _, err := kv.List("absent/", nil)
		if err != nil || pairs != nil {
			t.Errorf("%+v, %v", pairs, err)
		}
	})
	t.Run("list and keys", func(t *testing.T) {
		for _, key := range []string{"l/a", "l/b/1", "l/b/2", "l/c", "la"} {
			put(t, key, "value of "+key)
		}
		pairs, _, err := kv.List("l/", nil)
		must(t, err)
		var got []string
		for _, p := range pairs {
			got = append(got, p.Key+"="+string(p.Value))
		}
		if want := "l/a=value of l/a,l/b/1=value of l/b/1,l/b/2=value of l/b/2,l/c=value of l/c"; strings.Join(got, ",") != want {
			t.Errorf("list: %q", got)
		}
		keys, _, err := kv.Keys("l/", "/", nil)
		if err != nil || !slices.Equal(keys, []string{"l/a", "l/b/", "l/c"}) {
			t.Errorf("keys: %q, %v", keys, err)
		}
		keys, _, err = kv.Keys("l", "", nil)
		if err != nil || !slices.Equal(keys, []string{"l/a", "l/b/1", "l/b/2", "l/c", "la"}) {
			t.Errorf("all keys: %q, %v", keys, err)
		}
	})
	t.Run("cas", func(t *testing.T) {
		cas := func(value string, index uint64) bool {
			ok, _, err := kv.CAS(&api.KVPair{Key: "cas", Value: []byte(value), ModifyIndex: index}, nil)
			must(t, err)
			return ok
		}
		if !cas("1", 0) || cas("2", 0) {
			t.Fatal("index 0 must create and nothing else")
		}
		index := get(t, "cas").ModifyIndex
		if cas("3", index+1) || !cas("4", index) || cas("5", index) {
			t.Error("only the index that the key has may write")
		}
		if got := get(t, "cas"); string(got.Value) != "4" {
			t.Errorf("value %q", got.Value)
		}
	})
	t.Run("delete", func(t *testing.T) {
		put(t, "del/one", "1")
		put(t, "del/two", "2")
		put(t, "delicate", "3")
		pair := get(t, "del/one")
		pair.ModifyIndex++
		if ok, _, err := kv.DeleteCAS(pair, nil); ok || err != nil {
			t.Errorf("deleted with a wrong index: %v, %v", ok, err)
		}
		pair.ModifyIndex--
		if ok, _, err := kv.DeleteCAS(pair, nil); !ok || err != nil {
			t.Errorf("not deleted with the right index: %v, %v", ok, err)
		}
		put(t, "del/one", "1")
		_, err := kv.Delete("del/one", nil)
		must(t, err)
		if got := get(t, "del/one"); got != nil {
			t.Errorf("still there: %+v", got)
		}
		_, err = kv.DeleteTree("del/", nil)
		must(t, err)
		if keys, _, err := kv.Keys("del", "", nil); err != nil || !slices.Equal(keys, []string{"delicate"}) {
			t.Errorf("after the tree was deleted: %q, %v", keys, err)
		}
	})
	t.Run("blocking", func(t *testing.T) {
		put(t, "watched", "1")
		_, meta, err := kv.Get("watched", nil)
		must(t, err)
		type answer struct {
			pair *api.KVPair
			meta *api.QueryMeta
			err  error
		}
		woke := make(chan answer, 1)
		go func() {
			pair, m, err := kv.Get("watched", waiting(meta.LastIndex))
			woke <- answer{pair, m, err}
		}()
		put(t, "unwatched", "1")
		put(t, "watched", "2")
		a := <-woke
		must(t, a.err)
		if string(a.pair.Value) != "2" || a.meta.LastIndex <= meta.LastIndex {
			t.Errorf("woke with %+v at %d after %d", a.pair, a.meta.LastIndex, meta.LastIndex)
		}
		// Without a change a blocking query ends after its wait, with the current result.
		_, m, err := kv.List("watched", &api.QueryOptions{WaitIndex: a.meta.LastIndex, WaitTime: 50 * time.Millisecond})
		if err != nil || m.LastIndex != a.meta.LastIndex || m.RequestTime < 50*time.Millisecond {
			t.Errorf("%+v, %v", m, err)
		}
	})
	t.Run("modes", func(t *testing.T) {
		put(t, "mode", "x")
		for name, q := range map[string]*api.QueryOptions{
			"stale": {AllowStale: true}, "consistent": {RequireConsistent: true}, "dc": {Datacenter: "dc1"},
		} {
			if pair, meta, err := kv.Get("mode", q); err != nil || pair == nil || !meta.KnownLeader {
				t.Errorf("%s: %+v, %+v, %v", name, pair, meta, err)
			}
		}
		if _, _, err := kv.Get("mode", &api.QueryOptions{Datacenter: "elsewhere"}); err == nil || !strings.Contains(err.Error(), "No path to datacenter") {
			t.Errorf("an unknown datacenter: %v", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		put(t, "large", "small")
		_, err := kv.Put(&api.KVPair{Key: "large", Value: make([]byte, 512<<10+1)}, nil)
		if err == nil || !strings.Contains(err.Error(), "Unexpected response code: 413") {
			t.Errorf("error %v", err)
		}
		if got := get(t, "large"); string(got.Value) != "small" {
			t.Errorf("value of %d bytes", len(got.Value))
		}
	})
	t.Run("locks need sessions", func(t *testing.T) {
		_, _, err := kv.Acquire(&api.KVPair{Key: "lock", Session: "11111111-2222-3333-4444-555555555555"}, nil)
		if err == nil || !strings.Contains(err.Error(), "invalid session") {
			t.Errorf("error %v", err)
		}
	})
}

func TestTxn(t *testing.T) {
	_, c := start(t, nil)

	t.Run("all of it", func(t *testing.T) {
		ok, resp, _, err := c.KV().Txn(api.KVTxnOps{
			{Verb: api.KVSet, Key: "t/a", Value: []byte("1"), Flags: 7},
			{Verb: api.KVSet, Key: "t/b", Value: []byte("2")},
			{Verb: api.KVGet, Key: "t/a"},
			{Verb: api.KVCheckNotExists, Key: "t/c"},
			{Verb: api.KVGetTree, Key: "t/"},
		}, nil)
		must(t, err)
		if !ok || len(resp.Results) != 5 || string(resp.Results[2].Value) != "1" || resp.Results[2].Flags != 7 {
			t.Fatalf("%v, %+v", ok, resp)
		}
		index := resp.Results[0].ModifyIndex
		for _, r := range resp.Results {
			if r.ModifyIndex != index {
				t.Errorf("%s was written at %d, not at %d", r.Key, r.ModifyIndex, index)
			}
		}
	})
	t.Run("or nothing", func(t *testing.T) {
		ok, resp, _, err := c.KV().Txn(api.KVTxnOps{
			{Verb: api.KVSet, Key: "t/new", Value: []byte("x")},
			{Verb: api.KVCAS, Key: "t/a", Value: []byte("x"), Index: 1},
			{Verb: api.KVDelete, Key: "t/b"},
		}, nil)
		must(t, err)
		if ok || len(resp.Errors) != 1 || resp.Errors[0].OpIndex != 1 || !strings.Contains(resp.Errors[0].What, "index is stale") {
			t.Fatalf("%v, %+v", ok, resp)
		}
		keys, _, err := c.KV().Keys("t/", "", nil)
		if err != nil || !slices.Equal(keys, []string{"t/a", "t/b"}) {
			t.Errorf("after a failed transaction: %q, %v", keys, err)
		}
	})
	t.Run("reads only", func(t *testing.T) {
		ok, resp, meta, err := c.KV().Txn(api.KVTxnOps{
			{Verb: api.KVGet, Key: "t/a"}, {Verb: api.KVGetOrEmpty, Key: "t/none"},
		}, &api.QueryOptions{AllowStale: true})
		must(t, err)
		if !ok || len(resp.Results) != 2 || resp.Results[1].Value != nil || !meta.KnownLeader {
			t.Errorf("%v, %+v, %+v", ok, resp, meta)
		}
	})
	t.Run("catalog", func(t *testing.T) {
		ok, resp, _, err := c.Txn().Txn(api.TxnOps{
			{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "tn", Address: "10.1.1.1"}}},
			{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "tn", Service: api.AgentService{ID: "s1", Service: "ts", Port: 7}}},
			{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: "tn", CheckID: "c1", Name: "c", ServiceID: "s1", Status: "passing"}}},
			{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "t/with", Value: []byte("catalog")}},
		}, nil)
		must(t, err)
		if !ok || len(resp.Results) != 4 || resp.Results[1].Service.Port != 7 {
			t.Fatalf("%v, %+v", ok, resp)
		}
		entries, _, err := c.Health().Service("ts", "", true, nil)
		if err != nil || len(entries) != 1 || entries[0].Node.Address != "10.1.1.1" || entries[0].Checks[0].CheckID != "c1" {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}
