package config

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quietTime is how long the files must stay unchanged before they are read, because
// editors and package managers write several times.
const quietTime = 200 * time.Millisecond

// WatchFiles calls reload after the configuration's files or directories have changed,
// until ctx ends (auto_reload_config). It also watches the parent directories, because a
// watch of a file ends when another file replaces it.
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
		// A directory is watched for its files, and its parent for the directory.
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
				_ = watcher.Add(path) // the watch of a replaced file has ended
			}
			if err := reload(); err != nil {
				log.Error("reload failed, nothing changed", "error", err)
			}
		}
	}
}
