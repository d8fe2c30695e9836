package tmpl

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// rig is a Tool over a stand-in agent, in a directory of its own. It works
// inside a synctest bubble.
type rig struct {
	t      *testing.T
	consul *tmpltest.Consul
	dir    string
	log    *syncBuffer
	tool   *Tool
	cancel context.CancelFunc
	ended  chan error
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, consul: tmpltest.New(), dir: t.TempDir(), log: &syncBuffer{}, ended: make(chan error, 1)}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// file is a file's text; "-" when there is none.
func (r *rig) file(name string) string {
	data, err := os.ReadFile(r.path(name))
	if err != nil {
		return "-"
	}
	return string(data)
}

func (r *rig) wantFile(name, want string) {
	r.t.Helper()
	if got := r.file(name); got != want {
		r.t.Fatalf("%s holds %q, want %q\nlog:\n%s", name, got, want, r.log)
	}
}

// lines is how many lines of the log hold all the words.
func (r *rig) lines(words ...string) int {
	n := 0
	for line := range strings.Lines(r.log.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}

func (r *rig) config(cfg Config) Config {
	c, err := client.New(client.Config{Transport: r.consul.Transport()})
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.Client = c
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return cfg
}

// start runs the tool beside the test and waits until it rests.
func (r *rig) start(cfg Config) {
	r.t.Helper()
	r.tool = New(r.config(cfg))
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel = cancel
	go func() { r.ended <- r.tool.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

// rest lets the tool take in what the test has just changed; a query that was
// asked a moment ago is not asked again at once.
func (r *rig) rest() {
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
}

// run runs the tool to its end.
func (r *rig) run(cfg Config) error {
	return New(r.config(cfg)).Run(r.t.Context())
}

// template writes a template and says where its file goes.
func (r *rig) template(name, text string) Template {
	r.write(name+".ctmpl", text)
	return Template{Source: r.path(name + ".ctmpl"), Destination: r.path(name)}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// inBubble runs fn with a rig where time is fake.
func inBubble(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newRig(t)) })
}
