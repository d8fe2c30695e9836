package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/durable"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestWatchFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.hcl")
	confd := filepath.Join(dir, "conf.d")
	write(t, file, "one")
	if err := os.Mkdir(confd, 0o755); err != nil {
		t.Fatal(err)
	}
	reloads := make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- WatchFiles(ctx, []string{file, confd}, func() error { reloads <- struct{}{}; return nil }, logx.Discard())
	}()

	// Until the watcher is there, changes go unseen: write until one is not.
	for seen := false; !seen; {
		write(t, file, time.Now().String())
		select {
		case <-reloads:
			seen = true
		case <-time.After(2 * quietTime):
		}
	}
	for name, change := range map[string]func(){
		"replaced file":     func() { write(t, file, "two") },
		"replaced again":    func() { write(t, file, "three") },
		"new file in dir":   func() { write(t, filepath.Join(confd, "a.json"), "{}") },
		"written in place":  func() { overwrite(t, file, "four") },
		"changed in folder": func() { overwrite(t, filepath.Join(confd, "b.json"), "{}") },
	} {
		change()
		select {
		case <-reloads:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no reload", name)
		}
	}
	write(t, filepath.Join(dir, "unrelated"), "x")
	select {
	case <-reloads:
		t.Error("a reload for a file that is none of ours")
	case <-time.After(3 * quietTime):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// write replaces a file as editors and package managers do.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := durable.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
