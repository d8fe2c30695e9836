package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// freeAddress is one in 127.0.0.0/8 on which no port of an agent is taken.
func freeAddress(t *testing.T) string {
	t.Helper()
next:
	for range 100 {
		addr := fmt.Sprintf("127.%d.%d.%d", 128+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
		for _, port := range []string{"8300", "8301", "8500", "8600"} {
			ln, err := net.Listen("tcp", net.JoinHostPort(addr, port))
			if err != nil {
				continue next
			}
			_ = ln.Close()
		}
		return addr
	}
	t.Fatal("found no free address in 127.0.0.0/8")
	return ""
}

func loaded(t *testing.T, more map[string]any) *config.Config {
	t.Helper()
	flags := map[string]any{"node_name": "n1"}
	for k, v := range more {
		flags[k] = v
	}
	if flags["bind_addr"] == nil {
		addr := freeAddress(t)
		flags["bind_addr"], flags["client_addr"] = addr, addr
	}
	cfg, _, err := config.Load(config.Sources{Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// onRecord calls a function at each record of a log, before it is written.
type onRecord struct {
	slog.Handler
	call func()
}

func (h onRecord) Enabled(context.Context, slog.Level) bool { return true }
func (h onRecord) Handle(context.Context, slog.Record) error {
	h.call()
	return nil
}
func (h onRecord) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h onRecord) WithGroup(string) slog.Handler      { return h }

// TestLeaveAtAnyMomentOfTheStart has an agent leave, and reload, at each record
// that it logs while it starts: SIGTERM and SIGHUP come when they come. Parts that
// are not made yet were used.
func TestLeaveAtAnyMomentOfTheStart(t *testing.T) {
	for _, server := range []bool{false, true} {
		done := false
		for at := 0; !done; at++ {
			var mu sync.Mutex
			seen, asked := 0, make(chan error, 1)
			var a *Agent
			ask := func() {
				_ = a.Reload() // says in the log what it does
				asked <- a.Leave(context.Background())
			}
			log := slog.New(onRecord{Handler: slog.DiscardHandler, call: func() {
				mu.Lock()
				defer mu.Unlock()
				if seen++; seen == at {
					go ask()
				}
			}})
			more := map[string]any{"data_dir": t.TempDir(), "server": server}
			if server {
				more["bootstrap_expect"] = 1
			}
			a = New(loaded(t, more), Options{Logger: log, Ready: func() {
				mu.Lock()
				defer mu.Unlock()
				if done = seen < at; done {
					go ask() // the start has fewer records: the last round
				}
			}})
			if at == 0 {
				if err := a.Leave(t.Context()); err != nil {
					t.Fatalf("leave before the start: %v", err)
				}
			}
			if err := a.Run(t.Context()); err != nil {
				t.Fatalf("server %v, leave at record %d of the start: the agent ends with %v", server, at, err)
			}
			if at > 0 {
				if err := <-asked; err != nil {
					t.Fatalf("server %v, leave at record %d: %v", server, at, err)
				}
			}
		}
	}
}

// runs starts an agent and waits until it is open. It is stopped with the test.
func runs(t *testing.T, cfg *config.Config, opts Options) *Agent {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = logx.Discard()
	}
	ready := make(chan struct{})
	opts.Ready = func() { close(ready) }
	a := New(cfg, opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ends with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the agent does not start: %v", err)
	}
	return a
}

// TestReloadThatWasAskedForWhileStarting is done once the agent runs.
func TestReloadThatWasAskedForWhileStarting(t *testing.T) {
	cfg := loaded(t, map[string]any{"data_dir": t.TempDir()})
	next := *cfg
	next.NodeMeta = map[string]string{"a": "b"}
	read := make(chan struct{}, 1)
	var a *Agent
	var begun atomic.Bool
	log := slog.New(onRecord{Handler: slog.DiscardHandler, call: func() {
		if begun.CompareAndSwap(false, true) { // Reload logs, too
			if err := a.Reload(); err != nil {
				t.Errorf("reload while starting: %v", err)
			}
		}
	}})
	a = New(cfg, Options{Logger: log, Reload: func() (*config.Config, []string, error) {
		read <- struct{}{}
		return &next, nil, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	<-read
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestReloadLeavesAllAsItWasAfterAnError has each part refuse its turn.
func TestReloadLeavesAllAsItWasAfterAnError(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("handler", nil, 0o600); err != nil { // is there, and cannot be run
		t.Fatal(err)
	}
	service := func(name string) *api.AgentServiceRegistration {
		return &api.AgentServiceRegistration{Name: name, Check: &api.CheckDefinition{TTL: api.Duration(time.Hour)}}
	}
	cfg := loaded(t, map[string]any{"data_dir": t.TempDir(), "server": true, "bootstrap_expect": 1})
	cfg.Services = []*api.AgentServiceRegistration{service("old")}
	cfg.Watches = []config.Watch{{"type": "key", "key": "a", "args": []any{"true"}}}

	var next *config.Config
	level := &slog.LevelVar{}
	a := runs(t, cfg, Options{Level: level, Reload: func() (*config.Config, []string, error) { return next, nil, nil }})
	if err := a.local.UpdateTTL("service:old", api.HealthPassing, ""); err != nil {
		t.Fatal(err)
	}
	watches := func() (names []string) {
		for _, w := range a.watches.Status().Watches {
			names = append(names, w.Watch)
		}
		return names
	}
	before := func() []any {
		return []any{a.local.Services(), a.local.Checks(), watches(), level.Level(), a.Self().Meta, a.live.Load().EnableDebug, a.server.Snapshots()}
	}
	for end := time.Now().Add(10 * time.Second); len(watches()) == 0; runtime.Gosched() { // they start beside the API
		if time.Now().After(end) {
			t.Fatal("no watch runs")
		}
	}
	was := before()
	good := func() *config.Config {
		c := *cfg
		c.Services = []*api.AgentServiceRegistration{service("new")}
		c.Watches = []config.Watch{{"type": "key", "key": "b", "args": []any{"true"}}}
		c.NodeMeta, c.LogLevel, c.EnableDebug, c.RaftTrailingLogs = map[string]string{"k": "v"}, "debug", true, 77
		return &c
	}
	for name, spoil := range map[string]func(*testing.T, *config.Config){
		"a service": func(t *testing.T, c *config.Config) { c.Services[0].Meta = map[string]string{"a b": ""} },
		"a check":   func(t *testing.T, c *config.Config) { c.Checks = []*api.CheckDefinition{{Name: "x"}} },
		"a check's service": func(t *testing.T, c *config.Config) {
			c.Checks = []*api.CheckDefinition{{Name: "x", TTL: 1, ServiceID: "old"}}
		},
		"a watch":           func(t *testing.T, c *config.Config) { c.Watches[0]["type"] = "nothing" },
		"a watch's handler": func(t *testing.T, c *config.Config) { c.Watches[0]["args"] = []any{"handler"} },
		"a key":             func(t *testing.T, c *config.Config) { c.ExecAuthorizedKeys = []string{"none"} },
		"the log level":     func(t *testing.T, c *config.Config) { c.LogLevel = "loud" },
		"the disk": func(t *testing.T, c *config.Config) {
			// What was kept of a check that goes cannot be removed.
			states, err := filepath.Glob(filepath.Join(c.DataDir, "checks", "state", "*"))
			if err != nil || len(states) != 1 {
				t.Fatal(states, err)
			}
			err = errors.Join(os.Remove(states[0]), os.MkdirAll(filepath.Join(states[0], "x"), 0o700))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(states[0]) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			next = good()
			spoil(t, next)
			if err := a.Reload(); err == nil {
				t.Fatal("no error")
			}
			if now := before(); !reflect.DeepEqual(now, was) {
				t.Errorf("after an error: %+v\nbefore: %+v", now, was)
			}
		})
	}
	next = good()
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := a.local.Services(); got["new"] == nil || got["old"] != nil {
		t.Errorf("services: %v", got)
	}
	if a.Self().Meta["k"] != "v" || level.Level() != slog.LevelDebug || !a.live.Load().EnableDebug || a.server.Snapshots().TrailingLogs != 77 {
		t.Errorf("not in effect: %v %v %v %+v", a.Self().Meta, level, a.live.Load().EnableDebug, a.server.Snapshots())
	}
}

// TestValidateRefusesWhatTheStartRefuses: both are one check.
func TestValidateRefusesWhatTheStartRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		text string // JSON
		want string // "" where the agent starts
	}{
		"a service's meta":   {`{"service": {"name": "a", "meta": {"a b": "x"}}}`, "invalid characters"},
		"interval and ttl":   {`{"service": {"name": "a", "check": {"ttl": "10s", "interval": "10s", "http": "http://x"}}}`, "both be specified"},
		"an empty check":     {`{"service": {"name": "a", "checks": [{}]}}`, "TTL must be > 0"},
		"unknown service_id": {`{"check": {"name": "c", "ttl": "10s", "service_id": "nope"}}`, `ServiceID "nope" does not exist`},
		"scripts disabled":   {`{"check": {"name": "c", "args": ["true"], "interval": "10s"}}`, "Scripts are disabled"},
		"grpc":               {`{"check": {"name": "c", "grpc": "127.0.0.1:1", "interval": "10s"}}`, "not implemented"},
		"a watch":            {`{"watches": [{"type": "key", "key": "a"}]}`, "Must define a watch handler"},
		"no such file":       {`{"tls": {"internal_rpc": {"ca_file": "/no/ca", "cert_file": "/no/c", "key_file": "/no/k"}}}`, "/no/c"},
		"any address":        {`{"service": {"name": "a", "address": "0.0.0.0"}}`, ""},
		"nothing":            {``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.json")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			addr := freeAddress(t)
			cfg, _, err := config.Load(config.Sources{Paths: []string{path}, Flags: map[string]any{
				"node_name": "n1", "bind_addr": addr, "client_addr": addr, "data_dir": t.TempDir()}})
			if err != nil {
				t.Fatal(err)
			}
			err = Validate(cfg)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				a := runs(t, cfg, Options{})
				for id, svc := range a.local.Services() {
					if svc.Address != "" {
						t.Errorf("%s is told to others at %s", id, svc.Address)
					}
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("validate says %v, want %q", err, tc.want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := New(cfg, Options{Logger: logx.Discard(), Ready: cancel}).Run(ctx)
			if ran == nil || !strings.Contains(ran.Error(), tc.want) {
				t.Errorf("the start says %v, want %q", ran, tc.want)
			}
		})
	}
}

// TestCheckOfAServiceThatWasRegisteredOverHTTP: a reload takes it, and so must the
// next start.
func TestCheckOfAServiceThatWasRegisteredOverHTTP(t *testing.T) {
	cfg := loaded(t, map[string]any{"data_dir": t.TempDir()})
	with := *cfg
	with.Checks = []*api.CheckDefinition{{Name: "c", TTL: api.Duration(time.Hour), ServiceID: "web"}}
	t.Run("reload", func(t *testing.T) {
		a := runs(t, cfg, Options{Reload: func() (*config.Config, []string, error) { return &with, nil, nil }})
		if err := a.local.RegisterService(&api.AgentServiceRegistration{Name: "web"}, local.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("start", func(t *testing.T) {
		if err := Validate(&with); err != nil {
			t.Error(err)
		}
		a := runs(t, &with, Options{})
		if c := a.local.Checks()["c"]; c == nil || c.ServiceName != "web" {
			t.Errorf("the check: %+v", c)
		}
	})
}
