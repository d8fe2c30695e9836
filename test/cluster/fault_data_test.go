package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// oftenSnapshots makes snapshots every few entries, and leaves few behind them.
const oftenSnapshots = `-hcl=raft_snapshot_threshold = 20 raft_snapshot_interval = "100ms" raft_trailing_logs = 10`

// snapshots are the directories of an agent's snapshots, the newest last.
func snapshots(a *agent) []string {
	found, err := filepath.Glob(filepath.Join(a.DataDir(), "raft", "snapshots", "*-*-*"))
	if err != nil {
		a.C.T.Fatal(err)
	}
	var whole []string
	for _, dir := range found {
		if !strings.HasSuffix(dir, ".tmp") {
			whole = append(whole, dir)
		}
	}
	if len(whole) > 1 && snapshotIndex(whole[0]) > snapshotIndex(whole[1]) {
		whole[0], whole[1] = whole[1], whole[0]
	}
	return whole
}

func snapshotIndex(dir string) (index int) {
	var term int
	_, _ = fmt.Sscanf(filepath.Base(dir), "%d-%d-", &term, &index)
	return index
}

// newestLog is the segment of the log that an agent writes to.
func newestLog(a *agent) string {
	found, err := filepath.Glob(filepath.Join(a.DataDir(), "raft", "log-*"))
	if err != nil || len(found) == 0 {
		a.C.T.Fatalf("no log: %v", err)
	}
	return found[len(found)-1]
}

// filled is a lone server that was killed with two snapshots, a log and a vote.
func filled(t *testing.T) *agent {
	a := unstarted(t, oftenSnapshots)
	serves(a)
	for i := 0; i < 40 || len(snapshots(a)) < 2; i++ {
		a.PutKey(fmt.Sprintf("kept/%02d", i%40), "a value to keep")
		if i > 5000 {
			t.Fatal("no two snapshots were made")
		}
	}
	for i := range 5 {
		a.PutKey(fmt.Sprintf("last/%d", i), "a value to keep")
	}
	a.Kill()
	return a
}

// starts runs the agent on what it has. It either answers with all that was
// written, "", or refuses, and then it gives what it said.
func starts(a *agent) (said string) {
	a.C.T.Helper()
	log := &bytes.Buffer{}
	ctx, cancel := context.WithTimeout(a.C.T.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.Bin(a.C.T), "agent"), a.Flags...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		a.C.T.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	for {
		kept, _, err := a.KVList(ctx, "kept/", nil)
		last, _, err2 := a.KVList(ctx, "last/", nil)
		if err == nil && err2 == nil {
			if len(kept) != 40 || len(last) != 5 {
				a.C.T.Errorf("it serves %d and %d keys of 40 and 5", len(kept), len(last))
			}
			for _, pair := range append(kept, last...) {
				if string(pair.Value) != "a value to keep" {
					a.C.T.Errorf("%s is %q", pair.Key, pair.Value)
				}
			}
			return ""
		}
		select {
		case <-ended:
			return log.String()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Whatever is damaged on disk: the server refuses and names the file, or it has
// all that it acknowledged. It never serves anything else.
func TestFaultDamagedData(t *testing.T) {
	a := filled(t)
	good := filepath.Join(a.C.Dir, "good")
	if err := os.CopyFS(good, os.DirFS(a.DataDir())); err != nil {
		t.Fatal(err)
	}
	newest := snapshots(a)[len(snapshots(a))-1]
	log := newestLog(a)
	votes := filepath.Join(a.DataDir(), "raft", "votes")
	page := os.Getpagesize()
	size := func(path string) int {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Size())
	}
	type damage struct {
		name, path string
		must       bool // be refused; otherwise it may not matter
		change     func(data []byte) []byte
	}
	flip := func(bit int) func([]byte) []byte {
		return func(d []byte) []byte { d[bit/8] ^= 1 << (bit % 8); return d }
	}
	zero := func(at, n int) func([]byte) []byte {
		return func(d []byte) []byte { clear(d[at:min(at+n, len(d))]); return d }
	}
	cut := func(to int) func([]byte) []byte { return func(d []byte) []byte { return d[:to] } }
	var all []damage
	for _, file := range []string{"state.bin", "meta.json"} {
		path := filepath.Join(newest, file)
		n := size(path)
		all = append(all,
			damage{file + ": a flipped bit", path, true, flip(n * 4)},
			damage{file + ": cut", path, true, cut(n - 1)},
			damage{file + ": empty", path, true, cut(0)},
			damage{file + ": a zeroed page", path, true, zero(0, page)})
	}
	n := size(log)
	all = append(all,
		damage{"log: the head", log, true, zero(0, page)},
		damage{"log: cut", log, true, cut(n / 2)},
		damage{"log: another value", log, true, func(d []byte) []byte {
			return bytes.ReplaceAll(d, []byte("a value to keep"), []byte("A value to keep"))
		}},
		damage{"log: the newest value", log, true, func(d []byte) []byte {
			d[bytes.LastIndex(d, []byte("a value to keep"))] ^= 1
			return d
		}},
		damage{"log: the page of the newest value", log, true, func(d []byte) []byte {
			at := bytes.LastIndex(d, []byte("a value to keep"))
			return zero(at-at%page, page)(d)
		}},
		damage{"votes: first page", votes, true, zero(0, page)},
		damage{"votes: second page", votes, true, zero(page, page)},
		damage{"votes: another term", votes, true, func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("CurrentTerm"), []byte("CurrentTerl")) }},
		damage{"votes: another vote", votes, true, func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("LastVoteCand"), []byte("LastVoteCanD")) }})
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds(8, 150) {
		bit := random.IntN(n * 8)
		all = append(all, damage{fmt.Sprint("log: flipped bit ", bit), log, true, flip(bit)})
	}
	for range rounds(8, 60) {
		at := random.IntN(n/page) * page
		all = append(all, damage{fmt.Sprint("log: zeroed page ", at/page), log, false, zero(at, page)}) // it may be blank
	}
	refusals := 0
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			was := a.C.T
			a.C.T = t
			defer func() { a.C.T = was }()
			if err := errors.Join(os.RemoveAll(a.DataDir()), os.CopyFS(a.DataDir(), os.DirFS(good))); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(d.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.path, d.change(data), 0o600); err != nil {
				t.Fatal(err)
			}
			switch said := starts(a); {
			case said != "":
				refusals++
				mentions(t, said, filepath.Join(a.DataDir(), "raft"), "-repair")
				if d.must {
					mentions(t, said, d.path)
				}
				if strings.Contains(said, "goroutine ") {
					t.Errorf("it panics:\n%s", said)
				}
			case d.must:
				t.Error("it started")
			}
		})
	}
	t.Logf("%d of %d were refused, the others did no harm", refusals, len(all))
	if err := errors.Join(os.RemoveAll(a.DataDir()), os.CopyFS(a.DataDir(), os.DirFS(good))); err != nil {
		t.Fatal(err)
	}
	mentions(t, refused(t, append(a.Flags, "-repair")...), "nothing to repair")
	spoil(t, filepath.Join(newest, "state.bin"))
	mentions(t, refused(t, append(a.Flags, "-repair")...), "no other server is known", newest, "damaged")
}

// spoil changes one bit in the middle of a file.
func spoil(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		data[len(data)/2] ^= 1
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A server of three whose data is damaged, or whose log is gone, refuses to start
// under its id, and takes part again as a new one after -repair; the old id goes.
func TestFaultRepair(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, a *agent){
		"damaged log": func(t *testing.T, a *agent) {
			path := filepath.Join(a.DataDir(), "raft", "votes")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, strings.ReplaceAll(string(data), "CurrentTerm", "currentTerm"))
		},
		"lost log": func(t *testing.T, a *agent) {
			if err := os.RemoveAll(filepath.Join(a.DataDir(), "raft")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Without autopilot's cleaning up: who is replaced is removed all the same.
			c := harness.Start(t, 3, 0, `-hcl=autopilot { server_stabilization_time = "500ms" cleanup_dead_servers = false }`)
			awaitOneCluster(c, 3, 3)
			c.Agents[0].PutKey("kept", "yes")
			a := c.Follower()
			id, err := os.ReadFile(filepath.Join(a.DataDir(), "node-id"))
			if err != nil {
				t.Fatal(err)
			}
			a.Kill()
			harm(t, a)
			mentions(t, refused(t, a.Flags...), filepath.Join(a.DataDir(), "raft"), "-repair")
			plain := a.Flags
			a.Flags = append(a.Flags[:len(a.Flags):len(a.Flags)], "-repair")
			a.Start()
			harness.Within(t, 40*time.Second, "the new server has the old one's place", func(ctx context.Context) error {
				now, voters, err := configuration(ctx, a)
				if err == nil && (voters != 3 || len(now) != 3 || strings.Contains(fmt.Sprint(now), string(id))) {
					err = fmt.Errorf("configuration %q", now)
				}
				return err
			})
			awaitOneCluster(c, 3, 3)
			if got := a.GetKey("kept", &client.Options{Stale: true}); got != "yes" {
				t.Errorf("the repaired server reads %q", got)
			}
			aside, _ := filepath.Glob(filepath.Join(a.DataDir(), "repaired-*", "node-id"))
			if len(aside) != 1 {
				t.Errorf("what was moved aside: %q", aside)
			}
			harness.Within(t, 10*time.Second, "the repair is over", func(context.Context) error {
				_, err := os.Stat(filepath.Join(a.DataDir(), "replaces"))
				if err == nil {
					return errors.New("not yet")
				}
				return nil
			})
			a.Kill()
			a.Flags = plain
			a.Start()
			awaitOneCluster(c, 3, 3)
			checkShared(c, "repaired")
		})
	}
}
