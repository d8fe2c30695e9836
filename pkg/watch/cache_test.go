package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data.json")
	q := Request{Path: "/v1/kv/a/", Params: "recurse="}
	results := map[Request]Result{q: {Value: []*api.KVPair{{Key: "a/b", Value: []byte("\xff1")}}, Index: 7, Items: 1}}
	now := time.Now()
	k := NewCache(CacheConfig{Path: path})
	if err := k.Load(now); err != nil || !k.NextWake().IsZero() {
		t.Fatalf("a file that is not there: %v", err)
	}
	k.Changed(now)
	if _, err := k.Tend(results, false, false, now.Add(saveInterval)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half of it was kept")
	}
	if _, err := k.Tend(results, true, false, now.Add(2*saveInterval)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	again := NewCache(CacheConfig{Path: path})
	if err := again.Load(now); err != nil {
		t.Fatal(err)
	}
	if use, _ := again.Tend(nil, false, true, now); use {
		t.Error("the agent had no time to answer")
	}
	if use, _ := again.Tend(nil, false, false, now.Add(maxFirstAnswer)); use {
		t.Error("an agent that is slow is there")
	}
	if use, _ := again.Tend(nil, false, true, now.Add(3*maxFirstAnswer)); !use {
		t.Error("no agent, and what is kept is not used")
	}
	r, ok := again.Lookup(q)
	if pairs, _ := r.Value.([]*api.KVPair); !ok || len(pairs) != 1 || string(pairs[0].Value) != "\xff1" || r.Index != 7 || r.Items != 1 {
		t.Errorf("kept %+v, %v", r, ok)
	}
	again.Changed(now)
	if _, ok := again.Lookup(q); ok {
		t.Error("an agent has answered, and what is old is still there")
	}
	for _, text := range []string{"", "{", `{"Version": 1}`, `{"Version": 2, "Results": [{"Path": "/v1/kv/a", "Body": 5}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := NewCache(CacheConfig{Path: path}).Load(now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// A file that another user wrote is not used.
func TestCacheOfAnotherUser(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"writable":     func(path string) error { return os.Chmod(path, 0o622) },
		"another's":    func(path string) error { return os.Chown(path, 12345, -1) },
		"only read":    func(path string) error { return os.Chmod(path, 0o644) },
		"just as kept": func(string) error { return nil },
	} {
		if what == "another's" && os.Getuid() != 0 {
			continue
		}
		path, now := filepath.Join(t.TempDir(), "data.json"), time.Now()
		k := NewCache(CacheConfig{Path: path})
		k.Changed(now)
		if err := k.Flush(map[Request]Result{{Path: "/v1/kv/a"}: {}}, true, false); err != nil {
			t.Fatal(err)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		refused := NewCache(CacheConfig{Path: path}).Load(now) != nil
		if want := what == "writable" || what == "another's"; refused != want {
			t.Errorf("%s: refused %v, want %v", what, refused, want)
		}
	}
}

// Results of another agent or datacenter, or too old ones, are not used; the error says why.
func TestCacheOfAnotherAgent(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "data.json")
	mine := CacheConfig{Path: path, Address: "http://10.0.0.1:8500", Datacenter: "dc1", MaxAge: 72 * time.Hour}
	k := NewCache(mine)
	k.Changed(now)
	if _, err := k.Tend(map[Request]Result{{Path: "/v1/kv/a"}: {}}, true, false, now.Add(saveInterval)); err != nil {
		t.Fatal(err)
	}
	saved := now.Add(saveInterval)
	for _, tt := range []struct {
		change func(*CacheConfig)
		after  time.Duration
		want   string // part of the error; "": it is used
	}{
		{func(*CacheConfig) {}, 0, ""},
		{func(*CacheConfig) {}, 72 * time.Hour, ""},
		{func(*CacheConfig) {}, -24 * time.Hour, ""}, // a clock that was lost
		{func(*CacheConfig) {}, 72*time.Hour + time.Minute, "72h1m0s ago, and may be 72h0m0s old"},
		{func(k *CacheConfig) { k.MaxAge = 0 }, 10 * 365 * 24 * time.Hour, ""},
		{func(k *CacheConfig) { k.Address = "http://10.0.0.2:8500" }, 0, "data of the agent http://10.0.0.1:8500, not of http://10.0.0.2:8500"},
		{func(k *CacheConfig) { k.Datacenter = "dc2" }, 0, "data of datacenter dc1, not of datacenter dc2"},
		{func(k *CacheConfig) { k.Datacenter = "" }, 0, "data of datacenter dc1, not of the agent's own datacenter"},
	} {
		cfg := mine
		tt.change(&cfg)
		kept := NewCache(cfg)
		err := kept.Load(saved.Add(tt.after))
		_, used := kept.Lookup(Request{Path: "/v1/kv/a"})
		if used != (tt.want == "") || (err == nil) != used || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v after %s: used %v, %v", cfg, tt.after, used, err)
		}
	}
}

// Unchanged results are current as long as an agent answers: their age counts from the
// last time when one did.
func TestCacheIsConfirmed(t *testing.T) {
	now := time.Now()
	cfg := CacheConfig{Path: filepath.Join(t.TempDir(), "data.json"), MaxAge: time.Hour}
	results := map[Request]Result{{Path: "/v1/kv/a"}: {}}
	k := NewCache(cfg)
	k.Changed(now)
	tend := func(failing bool) {
		t.Helper()
		if now = k.NextWake(); now.IsZero() {
			t.Fatal("there is nothing to do ever")
		}
		if _, err := k.Tend(results, true, failing, now); err != nil {
			t.Fatal(err)
		}
	}
	usable := func() bool { return NewCache(cfg).Load(now.Add(time.Hour)) == nil }
	for range 20 {
		if tend(false); !usable() {
			t.Fatal("it is old, though an agent answers")
		}
	}
	if tend(true); usable() {
		t.Error("it was confirmed though no agent answers")
	}
	if err := k.Flush(results, true, true); err != nil || usable() {
		t.Errorf("at the end it was confirmed though no agent answers: %v", err)
	}
	fresh := NewCache(CacheConfig{Path: cfg.Path})
	if err := fresh.Flush(results, true, false); err != nil || usable() {
		t.Errorf("it was confirmed by somebody whom no agent has answered: %v", err)
	}
}
