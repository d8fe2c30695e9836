// Package scripttest is what the tools' script tests (testdata/*.txtar) have in
// common: commands, and a real agent to ask.
package scripttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/pkg/cli"
)

// maxWait bounds the wait for a condition.
const maxWait = 20 * time.Second

// Commands are those that scripts have beside testscript's own:
//
//	[!] until FILE REGEXP              wait until a file matches (or does not)
//	signal NAME FILE                   signal the process whose id is in FILE
//	gone FILE                          wait until the process whose id is in FILE is no more
//	exits CODE COMMAND ARGS...         run a command that must end with that code
func Commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"until": until, "signal": sendSignal, "gone": gone, "exits": exits,
	}
}

// KillLeft kills the process whose id is in a file, if a failed script has left it.
func KillLeft(pidFile string) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if id, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && id > 1 {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
}

// Number parses an integer.
func Number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	ts.Check(err)
	return n
}

// eventually polls until ok returns true.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(maxWait); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("still not, after %s: %s", maxWait, what)
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
	return Number(ts, ts.ReadFile(file))
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
		// A zombie is gone, too: the init of this machine may not reap.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		return err == nil && strings.Contains(string(stat), ") Z ")
	})
}

func exits(ts *testscript.TestScript, _ bool, a []string) {
	want := Number(ts, a[0])
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

// withAgent is a TestingM for testscript.Main that has the agent on PATH while the
// tests run.
type withAgent struct{ m testscript.TestingM }

// Run implements testscript.TestingM. It runs in the folder of a command.
func (w withAgent) Run() int {
	dir, err := os.MkdirTemp("", "muster-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "../agent")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the agent: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv("PATH", dir+":"+os.Getenv("PATH")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return w.m.Run()
}

// startAgent starts "agent -dev" for one script, on an address of its own, which the
// script's MUSTER_HTTP_ADDR names; it returns when the agent answers. The process
// ends with the script.
func startAgent(env *testscript.Env) error {
	ip, err := freeAddress()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(env.WorkDir, ".agent.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("agent", "-dev", "-node=dev", "-bind="+ip, "-client="+ip)
	if config := filepath.Join(env.WorkDir, "agent.hcl"); exists(config) {
		cmd.Args = append(cmd.Args, "-config-file="+config)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	env.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	addr := ip + ":8500"
	env.Setenv("MUSTER_HTTP_ADDR", addr)
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	return answers(ctx, "http://"+addr+"/v1/kv/?keys&consistent")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// answers waits until the key/value store answers; it may be empty.
func answers(ctx context.Context, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound {
				http.DefaultClient.CloseIdleConnections()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeAddress finds one in 127.0.0.0/8 with the agent's ports free.
func freeAddress() (string, error) {
	for range 100 {
		ip := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(250))
		free := true
		for _, port := range []string{"8300", "8301", "8302", "8500", "8600"} {
			ln, err := net.Listen("tcp", net.JoinHostPort(ip, port))
			if err != nil {
				free = false
				break
			}
			_ = ln.Close()
		}
		if free {
			return ip, nil
		}
	}
	return "", errors.New("found no free address in 127.0.0.0/8")
}
