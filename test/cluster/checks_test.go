package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// Script checks run a program by its arguments, without a shell, and read its
// exit code as Nagios does.
func TestScriptChecks(t *testing.T) {
	c := harness.New(t)
	a := c.Add("s1", true, "-bootstrap-expect=1", "-config-file="+writeFile(t, filepath.Join(c.Dir, "checks.json"), `{
		"enable_local_script_checks": true,
		"checks": [
			{"id": "argv",    "name": "argv", "interval": "1s", "args": ["echo", "$HOME; exit 1", "*", "a  b"]},
			{"id": "ok",      "name": "0",    "interval": "1s", "args": ["sh", "-c", "echo DISK OK | cat; echo to stderr >&2"]},
			{"id": "warn",    "name": "1",    "interval": "1s", "args": ["sh", "-c", "echo DISK WARNING; exit 1"]},
			{"id": "crit",    "name": "2",    "interval": "1s", "args": ["sh", "-c", "echo DISK CRITICAL; exit 2"]},
			{"id": "unknown", "name": "3",    "interval": "1s", "args": ["sh", "-c", "exit 3"], "status": "passing"},
			{"id": "killed",  "name": "9",    "interval": "1s", "args": ["sh", "-c", "echo last words; kill -9 $$"]},
			{"id": "absent",  "name": "none", "interval": "1s", "args": ["/no/such/program"]},
			{"id": "long",    "name": "long", "interval": "1s", "args": ["sh", "-c", "head -c 9000 /dev/zero | tr '\\0' x; echo end"]}
		]}`))
	serves(a)
	for id, want := range map[string]struct{ status, output string }{
		"argv":    {"passing", "$HOME; exit 1 * a  b\n"},
		"ok":      {"passing", "DISK OK\nto stderr\n"},
		"warn":    {"warning", "DISK WARNING\n"},
		"crit":    {"critical", "DISK CRITICAL\n"},
		"unknown": {"critical", ""},
		"killed":  {"critical", "last words\n"},
		"absent":  {"critical", "fork/exec /no/such/program: no such file or directory"},
		"long":    {"passing", "Captured 4096 of 9004 bytes\n...\n" + strings.Repeat("x", 4092) + "end\n"},
	} {
		harness.Within(t, 10*time.Second, id, func(context.Context) error {
			if ch := localCheck(a, id); ch == nil || ch.Status != want.status || ch.Output != want.output {
				return fmt.Errorf("%s, want %s %q", toJSON(ch), want.status, want.output)
			}
			return nil
		})
		if got := checkIs(a, id, want.status); id != "crit" && id != "absent" && id != "killed" && got != want.output {
			t.Errorf("%s: the catalog has the output %q, want %q", id, got, want.output)
		}
	}
	// Local definitions are allowed here, those that come over HTTP are not.
	got := ask(a, "PUT", "/v1/agent/check/register", `{"Name": "x", "Args": ["true"], "Interval": "1s"}`)
	if got.code != 500 || !strings.Contains(got.body, "Scripts are disabled on this agent from remote calls") {
		t.Errorf("a script over HTTP: %+v", got)
	}
	if ch := localCheck(a, "x"); ch != nil {
		t.Errorf("it was registered all the same: %+v", ch)
	}
}

func TestScriptsOverHTTPNeedLeave(t *testing.T) {
	off := single(t)
	for _, body := range []string{
		`{"Name": "x", "Args": ["true"], "Interval": "1s"}`, `{"Name": "x", "ScriptArgs": ["true"], "Interval": "1s"}`,
	} {
		got := ask(off, "PUT", "/v1/agent/check/register", body)
		if got.code != 500 || !strings.Contains(got.body, "Scripts are disabled on this agent") {
			t.Errorf("%s: %+v", body, got)
		}
	}
	got := ask(off, "PUT", "/v1/agent/service/register", `{"Name": "s", "Check": {"Args": ["true"], "Interval": "1s"}}`)
	if got.code != 500 || !strings.Contains(got.body, "Scripts are disabled on this agent") {
		t.Errorf("in a service: %+v", got)
	}
	if all := ask(off, "GET", "/v1/agent/services", "").body + ask(off, "GET", "/v1/agent/checks", "").body; all != "{}{}" {
		t.Errorf("registered all the same: %s", all)
	}
	// In a file that needs leave too, so the agent does not start.
	text := refused(t, append(off.Flags, "-bind="+off.C.Net+".9", "-client="+off.C.Net+".9", "-data-dir="+filepath.Join(off.C.Dir, "other"),
		`-hcl=check { name = "x", args = ["true"], interval = "1s" }`)...)
	mentions(t, text, "Scripts are disabled on this agent", `"x"`)
}

// A check that takes too long is killed with everything it has started.
func TestScriptTimeoutKillsTheGroup(t *testing.T) {
	a := single(t, "-enable-script-checks")
	pids := filepath.Join(a.C.Dir, "pids")
	script := fmt.Sprintf("sleep 301 & echo $! >>%s; (sleep 302 & echo $! >>%s; wait) & echo $$ >>%s; echo started; wait", pids, pids, pids)
	got := ask(a, "PUT", "/v1/agent/check/register", toJSON(map[string]any{
		"ID": "slow", "Name": "slow", "Args": []string{"sh", "-c", script}, "Interval": "1h", "Timeout": "1s", "Status": "passing",
	}))
	if got.code != 200 {
		t.Fatal(got)
	}
	// The first run is after up to one interval; a change of the interval makes it soon.
	got = ask(a, "PUT", "/v1/agent/check/register", toJSON(map[string]any{
		"ID": "slow", "Name": "slow", "Args": []string{"sh", "-c", script}, "Interval": "1s", "Timeout": "1s", "Status": "passing",
	}))
	if got.code != 200 {
		t.Fatal(got)
	}
	if output := checkIs(a, "slow", api.HealthCritical); output != "Timed out (1s) running check\n\nstarted\n" {
		t.Errorf("output %q", output)
	}
	if got := ask(a, "PUT", "/v1/agent/check/deregister/slow", ""); got.code != 200 {
		t.Fatal(got)
	}
	harness.Within(t, 10*time.Second, "nothing of it lives", func(context.Context) error {
		text, err := os.ReadFile(pids)
		if err != nil {
			return err
		}
		all := strings.Fields(string(text))
		if len(all) < 3 {
			return fmt.Errorf("only %q were started", all)
		}
		for _, pid := range all {
			if lives(pid) {
				return fmt.Errorf("%s of %q lives", pid, all)
			}
		}
		return nil
	})
}

// lives tells whether a process runs; a zombie that init has not reaped yet
// does not.
func lives(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	return ok && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// A change of the output alone waits for check_update_interval, a change of the
// status does not and takes the output along.
func TestOutputChangesAreDeferred(t *testing.T) {
	for interval, deferred := range map[string]bool{"5m": true, "0s": false} {
		t.Run(interval, func(t *testing.T) {
			a := single(t, "-hcl=check_update_interval = \""+interval+"\"")
			for _, id := range []string{"a", "b"} {
				if got := ask(a, "PUT", "/v1/agent/check/register", `{"Name": "`+id+`", "TTL": "1h", "Status": "passing"}`); got.code != 200 {
					t.Fatal(got)
				}
				checkIs(a, id, api.HealthPassing)
			}
			say := func(id, status, output string) {
				t.Helper()
				if got := ask(a, "PUT", "/v1/agent/check/update/"+id, `{"Status": "`+status+`", "Output": "`+output+`"}`); got.code != 200 {
					t.Fatal(got)
				}
			}
			say("a", "passing", "new words")
			if ch := localCheck(a, "a"); ch.Output != "new words" {
				t.Errorf("locally %+v", ch)
			}
			if !deferred {
				harness.Within(t, 10*time.Second, "the output is in the catalog", func(ctx context.Context) error { return outputIs(ctx, a, "a", "new words") })
				return
			}
			say("b", "warning", "") // pushed at once, so by then the output had its chance
			checkIs(a, "b", api.HealthWarning)
			if err := outputIs(t.Context(), a, "a", ""); err != nil {
				t.Error(err)
			}
			say("a", "critical", "now it matters")
			checkIs(a, "a", api.HealthCritical)
			if err := outputIs(t.Context(), a, "a", "now it matters"); err != nil {
				t.Error(err)
			}
		})
	}
}

func outputIs(ctx context.Context, a *agent, id, want string) error {
	checks, _, err := a.HealthNode(ctx, a.Name, nil)
	for _, ch := range checks {
		if ch.CheckID == id && ch.Output != want {
			return fmt.Errorf("the catalog has the output %q of %s, want %q", ch.Output, id, want)
		}
	}
	return err
}

// Status changes are pushed once: what is said again writes nothing.
func TestSameStatusIsNotWrittenAgain(t *testing.T) {
	a := single(t)
	if got := ask(a, "PUT", "/v1/agent/check/register", `{"Name": "a", "TTL": "1h"}`); got.code != 200 {
		t.Fatal(got)
	}
	for range 20 {
		if got := ask(a, "PUT", "/v1/agent/check/pass/a", ""); got.code != 200 {
			t.Fatal(got)
		}
	}
	checkIs(a, "a", api.HealthPassing)
	_, meta, err := a.HealthNode(t.Context(), a.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ask(a, "PUT", "/v1/agent/check/pass/a", "")
	}
	_, again, err := a.HealthNode(t.Context(), a.Name, &client.Options{Index: meta.Index, Wait: 200 * time.Millisecond})
	if err != nil || again.Index != meta.Index {
		t.Errorf("index %d after %d, %v", again.Index, meta.Index, err)
	}
}

// Services and checks that were registered over HTTP are there again after a
// kill and after an orderly stop, with what TTL checks were told.
func TestRegistrationsSurviveRestart(t *testing.T) {
	c := harness.Start(t, 1, 1)
	server, a := c.Agents[0], c.Agent("c1")
	for path, body := range map[string]string{
		"/v1/agent/service/register": `{"Name": "web", "ID": "web-1", "Port": 80, "Tags": ["x"], "Meta": {"k": "v"}, "Check": {"CheckID": "alive", "TTL": "1h"}}`,
		"/v1/agent/check/register":   `{"Name": "disk", "TTL": "1h", "Notes": "watch it"}`,
	} {
		if got := ask(a, "PUT", path, body); got.code != 200 {
			t.Fatal(got)
		}
	}
	ask(a, "PUT", "/v1/agent/check/pass/alive", "")
	ask(a, "PUT", "/v1/agent/check/warn/disk?note=full", "")
	ask(a, "PUT", "/v1/agent/service/maintenance/web-1?enable=true&reason=later", "")
	checkIs(a, "disk", api.HealthWarning)
	services, checks := ask(a, "GET", "/v1/agent/services", ""), ask(a, "GET", "/v1/agent/checks", "")
	for _, stop := range []func(){a.Kill, func() { a.Signal(15); a.Exit() }} {
		stop()
		a.Start()
		server.AwaitStatus("c1", api.HealthPassing)
		harness.Within(t, 10*time.Second, "the agent answers", func(ctx context.Context) error {
			_, err := tryAsk(ctx, a, "GET", "/v1/agent/services", "")
			return err
		})
		if got := ask(a, "GET", "/v1/agent/services", ""); got != services {
			t.Errorf("services\n%s\nbefore\n%s", got.body, services.body)
		}
		if got := ask(a, "GET", "/v1/agent/checks", ""); got != checks {
			t.Errorf("checks\n%s\nbefore\n%s", got.body, checks.body)
		}
		checkIs(a, "disk", api.HealthWarning)
		checkIs(a, "alive", api.HealthPassing)
		checkIs(a, "_service_maintenance:web-1", api.HealthCritical)
	}
}
