package config

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quietTime is how long the files must be quiet before they are read:
// editors and package managers write several times.
const quietTime = 200 * time.Millisecond

// WatchFiles calls reload after the files and directories of a configuration have
// changed, until ctx ends (auto_reload_config). It watches directories, since a file
// that is replaced is another one under the same name.
func WatchFiles(ctx context.Context, paths []string, reload func() error, log *slog.Logger) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch configuration files: %w", err)
	}
	defer watcher.Close()
	named := map[string]bool{}
	for _, path := range paths {
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
				quiet.Reset(quietTime)
			}
		case err := <-watcher.Errors:
			log.Warn("watching configuration files", "error", err)
		case <-quiet.C:
			for path := range named {
				_ = watcher.Add(path) // a file that was replaced is watched anew
			}
			if err := reload(); err != nil {
				log.Error("reload failed, nothing changed", "error", err)
			}
		}
	}
}
