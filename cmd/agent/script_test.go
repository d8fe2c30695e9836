package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// maxWait is how long `until` tries.
const maxWait = 60 * time.Second

// The scripts run the code under test: as agent, and as consul, because a link
// of that name is how it replaces the reference.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agent": main, "consul": main, "fetch": fetch})
}

// TestScripts runs testdata/script. Each script has two addresses to itself,
// $ADDR and $ADDR2, and the subcommands ask the agent at the first.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			one, two, err := addresses()
			env.Setenv("ADDR", one)
			env.Setenv("ADDR2", two)
			env.Setenv("CONSUL_HTTP_ADDR", one+":8500")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a second at each exit by default
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "exits": exits, "fill": fill},
	})
}

// addresses finds two neighbours in 127.0.0.0/8 with the agent's ports free.
func addresses() (string, string, error) {
	for range 100 {
		net := fmt.Sprintf("127.%d.%d.", 64+rand.IntN(64), rand.IntN(256))
		host := 2 * (1 + rand.IntN(120))
		one, two := net+strconv.Itoa(host), net+strconv.Itoa(host+1)
		if free(one) && free(two) {
			return one, two, nil
		}
	}
	return "", "", errors.New("found no free addresses in 127.0.0.0/8")
}

func free(addr string) bool {
	for _, port := range []string{"8300", "8301", "8500", "8600"} {
		ln, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			return false
		}
		_ = ln.Close()
	}
	return true
}

// until runs a program again and again until it succeeds and, if an expression
// stands first in the form /.../, prints what matches it.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until [/expression/] program [argument...]")
	}
	want := regexp.MustCompile("")
	if n := len(args[0]); n > 1 && args[0][0] == '/' && args[0][n-1] == '/' {
		want = regexp.MustCompile("(?m)" + args[0][1:n-1])
		args = args[1:]
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(maxWait); ; <-again.C {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		var exited *exec.ExitError
		if err != nil && !errors.As(err, &exited) || time.Now().After(deadline) {
			ts.Fatalf("until %q %q: %v, and the last output was %q %q", want, args, err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		}
	}
}

// exits runs a program that has to end with the given exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [argument...]")
	}
	code := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s; %s", code, args[0], ts.ReadFile("stderr"))
	}
}

// fill puts variables into files.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

// fetch prints what a path of the HTTP API answers, on one line: -dev indents.
func fetch() {
	resp, err := http.Get("http://" + os.Getenv("CONSUL_HTTP_ADDR") + os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var line bytes.Buffer
	if err != nil || resp.StatusCode != http.StatusOK || json.Compact(&line, text) != nil {
		fmt.Fprintln(os.Stderr, resp.Status, err, string(text))
		os.Exit(1)
	}
	fmt.Println(line.String())
}
