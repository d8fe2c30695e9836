package tools

import (
	"context"
	"fmt"
	"os"
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
	commit := func(ctx context.Context, version int) error {
		var ops []*api.TxnOp
		for i := range keys {
			ops = append(ops, &api.TxnOp{KV: &api.TxnKVOp{
				Verb: "set", Key: fmt.Sprintf("txn/%d", i), Value: []byte(fmt.Sprint(version)),
			}})
		}
		_, err := c1.Txn(ctx, ops, nil)
		return err
	}
	harness.Until(t, "first transaction", func(ctx context.Context) error { return commit(ctx, 0) })

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
			harness.Until(t, "transaction", func(ctx context.Context) error { return commit(ctx, version) })
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
