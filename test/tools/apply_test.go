package tools

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// machines are folders with a tmpl each, which roll out one key together. Their
// reload notes its begin and end in one common file, and refuses what is bad.
func machines(t *testing.T, a *agent, n int, flags ...string) (all []*folder, journal *folder) {
	journal = a.Folder(t)
	for i := range n {
		f := a.Folder(t)
		f.Env = append(f.Env, "JOURNAL="+journal.File("journal"))
		f.Write("in", `{{ key "k" }}`)
		f.Write("out", "v1")
		f.Write("reload", fmt.Sprintf(`#!/bin/sh
			echo "begin %d $(cat out)" >>"$JOURNAL"; sleep 0.05; echo "end %[1]d $(cat out)" >>"$JOURNAL"
			! grep -q bad out`, i))
		f.Run("tmpl", append([]string{"-template", "in:out:./reload"}, flags...)...)
		all = append(all, f)
	}
	return all, journal
}

// A change reaches three machines, one after the other.
func TestApplyOneAfterTheOther(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("k", "v1")
	all, journal := machines(t, a, 3, "-apply-lock=svc/web", "-apply-hold=100ms")
	for _, f := range all {
		harness.Until(t, "tmpl is at work", func(context.Context) error {
			if len(harness.Running(f.Path)) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	a.PutKey("k", "v2")
	for _, f := range all {
		f.AwaitText("out", "v2")
	}
	harness.Until(t, "all ends", func(context.Context) error {
		if n := strings.Count(journal.Read("journal"), "end"); n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	lines := strings.Split(strings.TrimSpace(journal.Read("journal")), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		begin, end := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if begin[0] != "begin" || end[0] != "end" || begin[1] != end[1] {
			t.Fatalf("two at a time:\n%s", strings.Join(lines, "\n"))
		}
	}
	if len(lines) != 6 {
		t.Errorf("journal:\n%s", strings.Join(lines, "\n"))
	}
}

// The first machine that fails goes back to what it had, and stops the others,
// until the mark is removed.
func TestApplyStopsAfterAFailure(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("k", "v1")
	all, journal := machines(t, a, 3, "-apply-lock=svc/web", "-apply-abort-after-failures=1")
	a.PutKey("k", "bad")
	for _, f := range all {
		f.AwaitPart("log", "the rollout was stopped")
	}
	for _, f := range all {
		f.AwaitText("out", "v1")
	}
	if n := strings.Count(journal.Read("journal"), "begin 0 bad") + strings.Count(journal.Read("journal"), "begin 1 bad") +
		strings.Count(journal.Read("journal"), "begin 2 bad"); n != 1 {
		t.Errorf("%d machines tried it:\n%s", n, journal.Read("journal"))
	}
	a.PutKey("k", "v2")
	if err := deleteKey(t.Context(), a, "svc/web/.abort"); err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		f.AwaitText("out", "v2")
	}
}

// -exec is part of the turn, and so is what -once runs; a configuration file says it
// as well.
func TestApplyWithExec(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("k", "v1")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	f.Write("run", "#!/bin/sh\nlock show svc/web >seen || echo none >seen")
	f.Write("tmpl.hcl", `
		template { source = "in" destination = "out" }
		apply { lock = "svc/web" slots = 2 hold = "50ms" abort_after_failures = 1 }`)

	if code, _, stderr := f.Once("tmpl", "-config", "tmpl.hcl", "-exec", "./run", "-once"); code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	f.AwaitPart("seen", "Held:     1/2")
	a.PutKey("k", "v2")
	f.Run("tmpl", "-config", "tmpl.hcl", "-exec", "./run")
	f.AwaitText("out", "v2")
	f.AwaitPart("seen", "Held:     1/2")
	harness.Until(t, "the slot is free", func(ctx context.Context) error {
		if pair, _, err := a.KVGet(ctx, "svc/web/.lock", nil); err != nil || pair != nil {
			return errors.Join(err, errors.New("it is held"))
		}
		return nil
	})
}

// Three machines restart what they supervise one after the other: the turn of one lasts
// until its new program has started and its health gate has opened.
func TestApplyWithSupervise(t *testing.T) {
	const machines = 3
	a := harness.Dev(t)
	a.PutKey("k", "1")
	order := a.Folder(t)
	order.Write("order", "")
	for range machines {
		f := a.Folder(t)
		f.Write("in", `{{ key "k" }}`)
		f.Write("out", "1")
		f.Write("server", `#!/bin/sh
trap 'sleep 0.5; exit 0' INT
echo "begin $(cat out)" >>`+order.File("order")+`
sleep 0.1
echo "done $(cat out)" >>`+order.File("order")+`
while :; do sleep 0.02; done
`)
		f.Run("tmpl", "-template", "in:out", "-supervise", "./server", "-apply-lock", "roll/web", "-apply-hold", "1s")
	}
	harness.Until(t, "all run", func(context.Context) error {
		if n := strings.Count(order.Read("order"), "done 1"); n < machines {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	order.Write("order", "")
	a.PutKey("k", "2")
	order.AwaitText("order", strings.Repeat("begin 2\ndone 2\n", machines))
}

// A health gate that finds no check of the service that is named does not open, and says which.
func TestApplyGateWithoutACheck(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("k", "1")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	code, _, stderr := f.Once("tmpl", "-template", "in:out", "-once", "-apply-lock", "svc/web", "-apply-hold", "50ms",
		"-apply-service", "wbe", "-apply-health-timeout", "300ms", "-apply-abort-after-failures", "1")
	if code != 14 || !strings.Contains(stderr, `service "wbe" has no check at this agent`) {
		t.Errorf("code %d: %s", code, stderr)
	}
	if pair, _, err := a.KVGet(t.Context(), "svc/web/.abort", nil); err != nil || pair == nil || !strings.Contains(string(pair.Value), "wbe") {
		t.Errorf("the failure is not noted: %v, %v", pair, err)
	}
}
