package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data.json")
	q := Query{Path: "/v1/kv/a/", Params: "recurse="}
	results := map[Query]Result{q: {Value: []*api.KVPair{{Key: "a/b", Value: []byte("\xff1")}}, Index: 7, Items: 1}}
	now := time.Now()
	k := Keep(path)
	if err := k.Load(now); err != nil || !k.WakeAt().IsZero() {
		t.Fatalf("a file that is not there: %v", err)
	}
	k.Changed(now)
	if _, err := k.Tend(results, false, false, now.Add(keepEvery)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half of it was kept")
	}
	if _, err := k.Tend(results, true, false, now.Add(2*keepEvery)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	again := Keep(path)
	if err := again.Load(now); err != nil {
		t.Fatal(err)
	}
	if use, _ := again.Tend(nil, false, true, now); use {
		t.Error("the agent had no time to answer")
	}
	if use, _ := again.Tend(nil, false, false, now.Add(keptPatience)); use {
		t.Error("an agent that is slow is there")
	}
	if use, _ := again.Tend(nil, false, true, now.Add(3*keptPatience)); !use {
		t.Error("no agent, and what is kept is not used")
	}
	r, ok := again.Old(q)
	if pairs, _ := r.Value.([]*api.KVPair); !ok || len(pairs) != 1 || string(pairs[0].Value) != "\xff1" || r.Index != 7 || r.Items != 1 {
		t.Errorf("kept %+v, %v", r, ok)
	}
	again.Changed(now)
	if _, ok := again.Old(q); ok {
		t.Error("an agent has answered, and what is old is still there")
	}
	for _, text := range []string{"", "{", `{"Version": 2}`, `{"Version": 1, "Results": [{"Path": "/v1/kv/a", "Body": 5}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Keep(path).Load(now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// What somebody else has put there ends in no file and no environment.
func TestKeptOfOthers(t *testing.T) {
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
		k := Keep(path)
		k.Changed(now)
		if err := k.Flush(map[Query]Result{{Path: "/v1/kv/a"}: {}}, true); err != nil {
			t.Fatal(err)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		refused := Keep(path).Load(now) != nil
		if want := what == "writable" || what == "another's"; refused != want {
			t.Errorf("%s: refused %v, want %v", what, refused, want)
		}
	}
}
