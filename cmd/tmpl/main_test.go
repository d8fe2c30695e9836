package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
)

// patience is how long "until" waits.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	proc.GuardMain()
	testscript.Main(m, map[string]func(){"tmpl": main})
}

type consulKey struct{}

// TestScripts runs testdata/*.txtar, which are also examples of use. Beside
// testscript's own commands they have:
//
//	key NAME VALUE                     write a key of the stand-in agent
//	service NAME ID ADDR PORT STATUS   register an instance
//	fail STATUS                        answer everything with that status; 0 ends it
//	[!] until FILE REGEXP              wait until a file matches (or does not)
//	signal NAME FILE                   signal the process whose id is in FILE
//	gone FILE                          wait until the process whose id is in FILE is no more
//	exits CODE COMMAND ARGS...         run a command that must end with that code
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			consul := tmpltest.New()
			server := httptest.NewServer(consul)
			env.Defer(func() {
				server.CloseClientConnections()
				server.Close()
				killLeftOver(filepath.Join(env.WorkDir, "pid"))
			})
			env.Values[consulKey{}] = consul
			env.Setenv("CONSUL_HTTP_ADDR", server.URL)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"key":     func(ts *testscript.TestScript, _ bool, a []string) { consul(ts).SetKey(a[0], a[1]) },
			"service": service,
			"fail":    func(ts *testscript.TestScript, _ bool, a []string) { consul(ts).Fail(number(ts, a[0])) },
			"until":   until,
			"signal":  sendSignal,
			"gone":    gone,
			"exits":   exits,
		},
	})
}

// killLeftOver ends the tmpl of a script that failed.
func killLeftOver(pidFile string) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if id, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && id > 1 {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
}

func consul(ts *testscript.TestScript) *tmpltest.Consul {
	return ts.Value(consulKey{}).(*tmpltest.Consul)
}

func service(ts *testscript.TestScript, _ bool, a []string) {
	if len(a) != 5 {
		ts.Fatalf("usage: service NAME ID ADDR PORT STATUS")
	}
	consul(ts).SetService(a[0], a[1], a[2], number(ts, a[3]), a[4])
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	ts.Check(err)
	return n
}

// eventually polls: there is nothing to be told by.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("still not, after %s: %s", patience, what)
		}
	}
}

func until(ts *testscript.TestScript, neg bool, a []string) {
	re, err := regexp.Compile("(?m)" + a[1])
	ts.Check(err)
	var data []byte
	defer func() { ts.Logf("%s: %s", a[0], data) }()
	eventually(ts, strings.Join(a, " "), func() bool {
		data, err = os.ReadFile(ts.MkAbs(a[0]))
		return (err == nil && re.Match(data)) != neg
	})
}

func pid(ts *testscript.TestScript, file string) int {
	until(ts, false, []string{file, `^[0-9]+\n`})
	return number(ts, ts.ReadFile(file))
}

func sendSignal(ts *testscript.TestScript, _ bool, a []string) {
	sig, err := cli.ParseSignal(a[0])
	ts.Check(err)
	ts.Check(syscall.Kill(pid(ts, a[1]), sig))
}

func gone(ts *testscript.TestScript, _ bool, a []string) {
	id := pid(ts, a[0])
	eventually(ts, "gone "+a[0], func() bool {
		if errors.Is(syscall.Kill(id, 0), syscall.ESRCH) {
			return true
		}
		// Dead, but nobody has taken note: an init that does not reap.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		return err == nil && strings.Contains(string(stat), ") Z ")
	})
}

func exits(ts *testscript.TestScript, _ bool, a []string) {
	want := number(ts, a[0])
	err := ts.Exec(a[1], a[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(a[1:], " "), code, want)
	}
}
