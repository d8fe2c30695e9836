package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// reloadSettle is how long the files must be quiet before they are read:
// editors and package managers write several times.
const reloadSettle = 200 * time.Millisecond

// autoReload reads the configuration again when its files change
// (auto_reload_config).
type autoReload struct {
	paths  []string // files and directories
	reload func() error
	log    *slog.Logger
}

// run watches until ctx ends. It watches directories, since a file that is
// replaced is another one under the same name.
func (w autoReload) run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch configuration files: %w", err)
	}
	defer watcher.Close()
	named := map[string]bool{}
	for _, path := range w.paths {
		path = filepath.Clean(path)
		named[path] = true
		// For a directory both: itself for its files, its parent for itself.
		for _, dir := range []string{path, filepath.Dir(path)} {
			if err := watcher.Add(dir); err != nil {
				return fmt.Errorf("watch configuration file %s: %w", path, err)
			}
		}
	}
	quiet := time.NewTimer(0)
	<-quiet.C
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-watcher.Events:
			if event.Op != fsnotify.Chmod && (named[event.Name] || named[filepath.Dir(event.Name)]) {
				quiet.Reset(reloadSettle)
			}
		case err := <-watcher.Errors:
			w.log.Warn("watching configuration files", "error", err)
		case <-quiet.C:
			for path := range named {
				_ = watcher.Add(path) // a file that was replaced is watched anew
			}
			if err := w.reload(); err != nil {
				w.log.Error("reload failed, nothing changed", "error", err)
			}
		}
	}
}
