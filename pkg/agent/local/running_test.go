package local

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// The end of Run, or of the check, ends a script that is at work. On the wall
// clock: processes live there.
func TestScriptEndsWithItsCheck(t *testing.T) {
	for name, end := range map[string]func(s *State, cancel func()) error{
		"end of Run":     func(_ *State, cancel func()) error { cancel(); return nil },
		"deregistration": func(s *State, _ func()) error { return s.DeregisterCheck("slow") },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			cfg := testConfig(newFake())
			cfg.EnableScriptChecks = true
			s := New(cfg)
			must(t, s.RegisterCheck(&api.CheckDefinition{
				Name: "slow", ScriptArgs: []string{"sh", "-c", "echo $$ > " + file + "; sleep 1000"}, Interval: api.Duration(time.Second),
			}, Options{}))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			var pid int
			poll(t, "the script runs", func() bool {
				data, _ := os.ReadFile(file)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
				return pid > 0
			})
			must(t, end(s, cancel))
			poll(t, "the script is dead", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
			cancel()
			must(t, <-done)
		})
	}
}

func poll(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for give := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(give) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// A runner that was replaced does not report into its successor's check.
func TestReportOfAReplacedRunnerIsDropped(t *testing.T) {
	s := New(testConfig(newFake()))
	def := &api.CheckDefinition{Name: "c", TCP: "127.0.0.1:1", Interval: api.Duration(time.Minute)}
	must(t, s.RegisterCheck(def, Options{}))
	e := s.checks["c"]
	old := e.runner
	def.TCP = "127.0.0.1:2"
	must(t, s.RegisterCheck(def, Options{}))
	s.report(e, old, "passing", "late")
	if got := s.Checks()["c"]; got.Status != "critical" {
		t.Errorf("status %s", got.Status)
	}
	s.report(e, e.runner, "passing", "in time")
	if got := s.Checks()["c"]; got.Status != "passing" || got.Output != "in time" {
		t.Errorf("%+v", got)
	}
}

// Services that mirror each other come to rest.
func TestAliasesOfEachOtherSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testConfig(newFake()))
		for id, other := range map[string]string{"a": "b", "b": "a"} {
			must(t, s.RegisterService(&api.AgentServiceRegistration{ID: id, Name: id, Check: &api.CheckDefinition{AliasService: other}}, Options{}))
		}
		defer running(t, s)()
		synctest.Wait()
		if n := len(s.Checks()["service:a"].Output); n > api.MaxCheckOutput {
			t.Errorf("output of %d bytes", n)
		}
	})
}
