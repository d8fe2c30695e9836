package envexec

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
	"github.com/muster-dev/muster/pkg/watch"
)

// rig is a Tool over a stand-in agent, with a real child, in a directory of its own.
type rig struct {
	t      *testing.T
	consul *tmpltest.Consul
	dir    string
	log    *logBuffer
	tool   *Tool
	cancel context.CancelFunc
	ended  chan error
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// server is a child that writes the value of "a" to started, appends what it finds in
// the file env to seen on HUP, and ends when there is a file called end, with what is in it.
const server = `
	trap 'cat env >>seen' HUP
	echo "$a" >>started
	while [ ! -e end ]; do sleep 0.01; done
	exit $(cat end)
`

// start runs a tool on the folder "app".
func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	return newRig(t).start(cfg)
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, consul: tmpltest.New(), dir: t.TempDir(), log: &logBuffer{}, ended: make(chan error, 1)}
	r.consul.SetKey("app/a", "1")
	return r
}

func (r *rig) start(cfg Config) *rig {
	t := r.t
	t.Helper()
	c, err := client.New(client.Config{Transport: r.consul.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Client = c
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Plan.Prefixes == nil {
		cfg.Plan.Prefixes = []Prefix{{Path: "app"}}
	}
	cfg.Plan.Own = append(cfg.Plan.Own, "PATH="+os.Getenv("PATH"))
	if cfg.Child.Command == nil {
		cfg.Child = supervise.Spec{Command: []string{"cd " + r.dir + "\n" + server}, KillSignal: syscall.SIGKILL, ReloadSignal: syscall.SIGHUP}
	}
	if cfg.EnvFile.Path != "" {
		cfg.EnvFile = EnvFile{Path: r.path(cfg.EnvFile.Path), Format: env.Dotenv}
	}
	r.tool = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.ended <- r.tool.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) file(name string) string {
	data, _ := os.ReadFile(r.path(name))
	return string(data)
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("still not: %s\nstarted %q, seen %q\nlog:\n%s", what, r.file("started"), r.file("seen"), r.log)
		}
	}
}

func (r *rig) untilFile(name, want string) {
	r.t.Helper()
	r.until(name+" reads "+want, func() bool { return r.file(name) == want })
}

func (r *rig) untilLogged(text string) {
	r.t.Helper()
	r.until("it logs "+text, func() bool { return strings.Contains(r.log.String(), text) })
}

// stop ends the tool.
func (r *rig) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

// A change that makes other variables starts the child again with them; one that does
// not, and a value that is set anew, leave it alone.
func TestChangeRestartsTheChild(t *testing.T) {
	r := start(t, Config{OnChange: Restart})
	r.untilFile("started", "1\n")
	r.consul.SetKey("app/a", "2")
	r.untilFile("started", "1\n2\n")
	r.consul.SetKey("app/folder/", "") // makes no variable
	r.consul.SetKey("app/a", "3")
	r.untilFile("started", "1\n2\n3\n")
	r.until("the status shows the third child", func() bool { // which it does only once the child has begun
		s := r.tool.Status()
		return s.Starts == 3 && s.Changes == 2 && s.State == StateRunning && strings.Join(s.Variables, " ") == "a"
	})
	r.stop()
}

// The child has to read the new file: it is told only when that is written.
func TestEnvFileThatCannotBeWritten(t *testing.T) {
	text := func(value string) string {
		text, err := env.Print([]env.Var{{Name: "a", Value: value}}, env.Dotenv)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, how := range []OnChange{Signal, Restart} {
		t.Run(string(how), func(t *testing.T) {
			r := start(t, Config{OnChange: how, EnvFile: EnvFile{Path: "env"}})
			r.untilFile("started", "1\n")
			r.untilFile("env", text("1"))
			// A directory in the file's place is what no right, and no root, can write over.
			if err := errors.Join(os.Rename(r.path("env"), r.path("old")), os.Mkdir(r.path("env"), 0o700)); err != nil {
				t.Fatal(err)
			}
			r.consul.SetKey("app/a", "2")
			r.untilLogged("cannot write the variables, leaving the child as it is")
			if s := r.tool.Status(); s.Starts != 1 || s.Changes != 0 {
				t.Errorf("the child was told: %+v", s)
			}
			if err := os.Remove(r.path("env")); err != nil {
				t.Fatal(err)
			}
			if how == Signal {
				r.untilFile("seen", text("2"))
			} else {
				r.untilFile("started", "1\n2\n")
			}
			if got := r.file("env"); got != text("2") {
				t.Errorf("the file holds %q", got)
			}
			if n := strings.Count(r.log.String(), "cannot write the variables"); n != 1 {
				t.Errorf("it was said %d times", n)
			}
			r.until("the trouble is over", func() bool { return r.tool.Status().LastError == "" })
			r.stop()
		})
	}
}

// Data that make no environment leave the child as it is, and so does OnChange Nothing.
func TestChildIsLeftAlone(t *testing.T) {
	r := start(t, Config{OnChange: Restart})
	r.untilFile("started", "1\n")
	r.consul.SetKey("app/b-c", "x")
	r.until("it starts again", func() bool { return r.tool.Status().Starts == 2 })
	r.consul.SetKey("app/b/c", "y") // the same name
	r.untilLogged("the data make no environment, leaving the child as it is")
	r.consul.DeleteKey("app/b/c")
	r.until("the trouble is over", func() bool { return r.tool.Status().LastError == "" })
	if n := r.tool.Status().Starts; n != 2 {
		t.Errorf("%d starts", n)
	}
	r.stop()

	r = start(t, Config{OnChange: Nothing})
	r.untilFile("started", "1\n")
	r.consul.SetKey("app/a", "2")
	r.untilLogged("the variables have changed, leaving the child as it is")
	r.until("the status shows the child and the change", func() bool {
		s := r.tool.Status()
		return s.Starts == 1 && s.Changes == 1
	})
	r.stop()
}

// Another plan concerns the child only if it makes other variables; one that cannot be
// is not taken.
func TestReconfigure(t *testing.T) {
	r := start(t, Config{OnChange: Restart})
	r.consul.SetKey("other/a", "2")
	r.untilFile("started", "1\n")
	own := []string{"PATH=" + os.Getenv("PATH")}
	r.tool.Reconfigure(Plan{Own: own, Prefixes: []Prefix{{Path: "a@b@c"}}})
	r.untilLogged("cannot use the new sources, keeping the ones before")
	r.tool.Reconfigure(Plan{Own: own, Prefixes: []Prefix{{Path: "app/"}}})
	r.tool.Reconfigure(Plan{Own: own, Prefixes: []Prefix{{Path: "app"}, {Path: "other"}}})
	r.untilFile("started", "1\n2\n") // neither a third time, for what was replaced at once
	r.until("two starts are counted", func() bool { return r.tool.Status().Starts == 2 })
	r.stop()
}

// The end of the child is that of the tool, with its code.
func TestChildEnds(t *testing.T) {
	for code, end := range map[int]string{0: "0", 7: "7"} {
		r := start(t, Config{OnChange: Restart})
		r.untilFile("started", "1\n")
		if err := os.WriteFile(r.path("end"), []byte(end), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ended; cli.Code(err) != code {
			t.Errorf("code %d, want %d: %v", cli.Code(err), code, err)
		}
	}
	r := start(t, Config{Child: supervise.Spec{Command: []string{"/no/such/program"}}})
	if err := <-r.ended; cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("%v", err)
	}
}

// Once waits for the data and for nothing after that.
func TestOnce(t *testing.T) {
	r := start(t, Config{Once: true, OnChange: Restart})
	r.untilFile("started", "1\n")
	asked := r.consul.Asked()
	r.consul.SetKey("app/a", "2")
	if err := os.WriteFile(r.path("end"), []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; cli.Code(err) != 3 {
		t.Error(err)
	}
	if now := r.consul.Asked(); now > asked+1 || r.file("started") != "1\n" {
		t.Errorf("it went on asking: %d, then %d; started %q", asked, now, r.file("started"))
	}

	r = start(t, Config{Once: true, Timeout: 100 * time.Millisecond, Plan: Plan{Services: []Service{{Query: "web@nowhere"}}, Prefixes: []Prefix{}}})
	if err := <-r.ended; cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "timed out after 100ms, still waiting for") {
		t.Errorf("%v", err)
	}

	r = start(t, Config{Once: true, Plan: Plan{Services: []Service{{Query: "web@nowhere"}}, Prefixes: []Prefix{}}})
	r.cancel()
	if err := <-r.ended; cli.Code(err) != cli.ExitInterrupted {
		t.Errorf("%v", err)
	}
}

// Without an agent the child starts on what was kept, and goes on with live data.
func TestStartWithoutAgent(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept.json")
	r := start(t, Config{OnChange: Restart, Cache: watch.CacheConfig{Path: kept}})
	r.untilFile("started", "1\n")
	r.stop()

	r = newRig(t)
	r.consul.SetKey("app/a", "2")
	r.consul.Fail(500)
	r.start(Config{OnChange: Restart, Cache: watch.CacheConfig{Path: kept}, Retry: watch.Retry{Backoff: 100 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}})
	r.untilFile("started", "1\n")
	if s := r.tool.Status(); !s.FromDisk {
		t.Errorf("status %+v", s)
	}
	r.consul.Fail(0)
	r.untilFile("started", "1\n2\n")
	r.stop()
}
