package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/logx"
)

// harmed is a data directory with an id, votes that lack a page, and peers.
func harmed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(idFile, "11111111-2222-3333-4444-555555555555")
	put("serf/peers.json", `{"Version": 1, "Peers": [{"Name": "c", "Server": false}, {"Name": "s2", "Server": true}]}`)
	log, err := raftlog.Open(filepath.Join(dir, raftDir), logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, raftDir, "votes")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[:os.Getpagesize()])
	put(filepath.Join(raftDir, "votes"), string(data))
	return dir
}

func TestRepair(t *testing.T) {
	dir := harmed(t)
	r := Repairer{DataDir: dir, Logger: logx.Discard()}
	for range 2 { // the second one finds that it is under way
		if err := r.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{raftDir, idFile, raftMark} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
		aside, _ := filepath.Glob(filepath.Join(dir, "repaired-*", name))
		if len(aside) != 1 {
			t.Errorf("%s is in %q", name, aside)
		}
	}
	if former, _ := readText(filepath.Join(dir, replacesFile)); former != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("it replaces %q", former)
	}
	s := New(Config{NodeID: "new", Expect: 3, Raft: raftnode.Config{DataDir: dir}, Pool: noPool{}, Logger: logx.Discard()})
	if err := s.readReplaces(); err != nil || s.replaces == "" {
		t.Errorf("replaces %q, %v", s.replaces, err)
	}
	if set, _, _ := s.founders(); s.cfg.Expect != 0 || set != nil {
		t.Error("a repaired server would begin a cluster")
	}
}

// TestRepairFormerFormat: a server whose data is in a format that is not read any
// more rejoins like one whose data is damaged.
func TestRepairFormerFormat(t *testing.T) {
	dir := harmed(t)
	if err := os.WriteFile(filepath.Join(dir, raftDir, "version"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := raftlog.Open(filepath.Join(dir, raftDir), logx.Discard()); !errors.Is(err, raftlog.ErrOldFormat) {
		t.Fatal(err)
	}
	if err := (Repairer{DataDir: dir, Logger: logx.Discard()}).Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "repaired-*", raftDir)); len(aside) != 1 {
		t.Errorf("moved aside: %q", aside)
	}
}

// TestRepairCutOff: wherever a repair stops, the next one finishes it, and
// meanwhile no server starts under the old id.
func TestRepairCutOff(t *testing.T) {
	const id = "11111111-2222-3333-4444-555555555555"
	for done := 1; done <= 3; done++ {
		dir := harmed(t)
		steps := []func() error{
			func() error { return os.RemoveAll(filepath.Join(dir, raftDir)) },
			func() error { return os.WriteFile(filepath.Join(dir, replacesFile), []byte(id+"\n"), 0o600) },
			func() error { return os.Remove(filepath.Join(dir, idFile)) },
		}
		for _, step := range steps[:done] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if done < 3 {
			if log, err := raftlog.Open(filepath.Join(dir, raftDir), logx.Discard()); err == nil {
				log.Close()
				t.Errorf("after step %d it starts under its old id", done)
			}
		}
		if err := (Repairer{DataDir: dir, Logger: logx.Discard()}).Repair(t.Context()); err != nil {
			t.Errorf("after step %d: %v", done, err)
		}
		if now, _ := readText(filepath.Join(dir, idFile)); now != "" {
			t.Errorf("after step %d it has the id %q", done, now)
		}
		if former, _ := readText(filepath.Join(dir, replacesFile)); former != id {
			t.Errorf("after step %d it replaces %q", done, former)
		}
	}
}

func TestRepairRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, r *Repairer)
		want   string
	}{
		"a lone server": {func(_ *testing.T, r *Repairer) { r.Alone = true }, "no other server is known"},
		"a server that has met nobody": {func(t *testing.T, r *Repairer) {
			if err := os.Remove(filepath.Join(r.DataDir, "serf", "peers.json")); err != nil {
				t.Fatal(err)
			}
		}, "its snapshots are: none"},
		"a fixed id": {func(_ *testing.T, r *Repairer) { r.NodeID = "11111111-2222-3333-4444-555555555555" }, "node_id"},
		"whole data": {func(t *testing.T, r *Repairer) {
			if err := os.RemoveAll(filepath.Join(r.DataDir, raftDir)); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(r.DataDir, raftMark)); err != nil {
				t.Fatal(err)
			}
		}, "nothing to repair"},
		"no data directory": {func(_ *testing.T, r *Repairer) { r.DataDir = "" }, "no data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Repairer{DataDir: harmed(t), Logger: logx.Discard()}
			tt.change(t, &r)
			if err := r.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwants %q", err, tt.want)
			}
			if aside, _ := filepath.Glob(filepath.Join(r.DataDir, "repaired-*")); r.DataDir != "" && len(aside) != 0 {
				t.Error("something was moved")
			}
		})
	}
}
