package tools

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// A transaction over 50 keys is never seen half-applied in a rendered file: not by
// a template that reads each key by itself, behind a client agent, while the leader
// is killed. The file is looked at whenever it is another.
func TestTransactionIsNeverHalfRendered(t *testing.T) {
	const keys = 50
	h := harness.Start(t, 3, 1)
	c1 := h.Agent("c1")
	harness.Until(t, "first transaction", func(ctx context.Context) error { return setAll(ctx, c1, keys, 0) })

	f := c1.Folder(t)
	var text strings.Builder
	for i := range keys {
		fmt.Fprintf(&text, "{{ key \"txn/%d\" }} ", i)
	}
	f.Write("in", text.String())
	tool := f.Run("tmpl", "-template", "in:out", "-template", "in:out2")
	line := func(version int) string { return strings.Repeat(fmt.Sprintf("%d ", version), keys) }
	f.AwaitText("out", line(0))

	seen := map[string]bool{}
	stop, looked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				data, _ := os.ReadFile(f.File("out"))
				seen[string(data)] = true
			}
		}
	}()
	last := 0
	write := func(n int) {
		for range n {
			last++
			version := last
			harness.Until(t, "transaction", func(ctx context.Context) error { return setAll(ctx, c1, keys, version) })
			<-time.After(5 * time.Millisecond)
		}
	}
	write(40)
	h.Leader().Kill()
	write(40)
	f.AwaitText("out", line(last))
	f.AwaitText("out2", line(last))
	close(stop)
	<-looked
	for got := range seen {
		version, _, _ := strings.Cut(got, " ")
		if got != strings.Repeat(version+" ", keys) {
			t.Errorf("half a transaction was rendered: %s", got)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d versions were seen", len(seen))
	}
	if n := connections(t, tool.Pid()); n > 1 {
		t.Errorf("%d connections for %d keys", n, keys)
	}
}

// setAll writes the version to keys below txn/, in one transaction.
func setAll(ctx context.Context, a *agent, keys, version int) error {
	var ops []*api.TxnOp
	for i := range keys {
		ops = append(ops, &api.TxnOp{KV: &api.TxnKVOp{
			Verb: "set", Key: fmt.Sprintf("txn/%d", i), Value: []byte(fmt.Sprint(version)),
		}})
	}
	_, err := a.Txn(ctx, ops, nil)
	return err
}

// A handler of watch never gets half of a transaction, neither as a state nor as changes.
func TestTransactionIsNeverHalfWatched(t *testing.T) {
	const keys = 50
	h := harness.Start(t, 3, 1)
	c1 := h.Agent("c1")
	set := func(version int) {
		harness.Until(t, "transaction", func(ctx context.Context) error { return setAll(ctx, c1, keys, version) })
	}
	set(0)
	f := c1.Folder(t)
	// Each run ends with a mark, so that the test reads only whole runs.
	for file, flag := range map[string]string{"whole": "-changes=false", "changes": "-changes"} {
		f.Run("watch", "-type", "keyprefix", "-prefix", "txn/", "-overlap", "queue", "-state-dir", file+".d", flag, "--", "sh", "-c", "cat >>"+file+"; echo . >>"+file)
		f.AwaitPart(file, ".\n")
	}
	const last = 60
	for version := 1; version <= last; version++ {
		if version == last/2 {
			h.Leader().Kill()
		}
		set(version)
	}
	for _, file := range []string{"whole", "changes"} {
		value := fmt.Sprintf(`"Value":"%s"`, base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(last))))
		harness.Until(t, "the last version in "+file, func(context.Context) error {
			if text := f.Read(file); !strings.Contains(text, value) || !strings.HasSuffix(text, ".\n") {
				return fmt.Errorf("%d bytes", len(text))
			}
			return nil
		})
		runs := strings.Split(strings.TrimSuffix(f.Read(file), ".\n"), ".\n")
		for _, run := range runs {
			if got := values(t, run); len(got) != keys || len(slices.Compact(got)) != 1 {
				t.Errorf("%s: half a transaction: %q", file, got)
			}
		}
		if len(runs) < 10 {
			t.Errorf("%s: only %d versions were seen", file, len(runs))
		}
	}
}

// values are those of the keys that a handler was given: a list, or a change a line.
func values(t *testing.T, run string) (all []string) {
	t.Helper()
	var pairs []api.KVPair
	if strings.HasPrefix(run, "[") {
		if err := json.Unmarshal([]byte(run), &pairs); err != nil {
			t.Fatalf("%v: %s", err, run)
		}
	} else {
		for line := range strings.Lines(run) {
			var change struct{ New api.KVPair }
			if err := json.Unmarshal([]byte(line), &change); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			pairs = append(pairs, change.New)
		}
	}
	for _, p := range pairs {
		all = append(all, string(p.Value))
	}
	return all
}

// connections is how many sockets a process has.
func connections(t *testing.T, pid int) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}
