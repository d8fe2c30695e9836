package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/conf"
)

// Sources are where the configuration comes from; a later one wins.
type Sources struct {
	Paths  []string // files and directories, in the order of the command line
	Inline string   // the text of CT_LOCAL_CONFIG
	// Flags are settings by their dotted key ("exec.splay"), from the command
	// line.
	Flags map[string]any
}

// Load reads every source. The warnings are for the log; there is at most one
// about keys without effect.
func Load(src Sources) (*Config, []string, error) {
	in := intake{}
	for _, path := range src.Paths {
		if err := in.path(path); err != nil {
			return nil, nil, err
		}
	}
	if strings.TrimSpace(src.Inline) != "" {
		const name = "CT_LOCAL_CONFIG"
		m, err := conf.Parse(name, []byte(src.Inline), conf.HCL)
		if err == nil {
			err = in.add(name, m)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	flags, err := conf.Nest(src.Flags)
	if err != nil {
		return nil, nil, fmt.Errorf("read flags: %w", err)
	}
	if err := in.add("flags", flags); err != nil {
		return nil, nil, err
	}
	var cfg Config
	if err := conf.Decode(in.merged, &cfg); err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	return &cfg, in.warnings(), nil
}

// intake collects what the sources say.
type intake struct {
	merged  map[string]any
	ignored []string
	files   int
}

// path reads a file, or all files below a directory. What has none of the known
// extensions is HCL, or JSON, which is HCL too: as in consul-template.
func (in *intake) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if !info.IsDir() {
		return in.file(path)
	}
	return filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("read configuration: %w", err)
		case at != path && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // hidden, such as the ..data of a mounted ConfigMap
		case entry.IsDir():
			return nil
		}
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		if in.files++; in.files > conf.MaxDirFiles {
			return fmt.Errorf("read configuration: directory %s has more than %d files", path, conf.MaxDirFiles)
		}
		return in.file(at)
	})
}

func (in *intake) file(path string) error {
	format := conf.FormatOf(path)
	if format == "" {
		format = conf.HCL
	}
	m, err := conf.ReadFile(path, format)
	if err != nil {
		return err
	}
	return in.add(path, m)
}

// add checks one source and lays it over those before.
func (in *intake) add(name string, m map[string]any) error {
	if address, ok := m["consul"].(string); ok { // the short form
		m["consul"] = map[string]any{"address": address}
	}
	fitted, err := conf.Fit(name, m, Config{})
	if err != nil {
		return err
	}
	var one Config
	if err := conf.Decode(fitted.Map, &one); err != nil {
		return fmt.Errorf("failed to parse %s: %w", name, err)
	}
	if err := one.validate(); err != nil {
		return fmt.Errorf("failed to parse %s: %w", name, err)
	}
	// A command of several words replaces the one before instead of going on
	// behind it.
	if exec, ok := fitted.Map["exec"].(map[string]any); ok && exec["command"] != nil {
		exec["command"] = argv(one.Exec.Words())
	}
	in.ignored = append(in.ignored, fitted.Ignored...)
	in.merged = conf.Merge(in.merged, fitted.Map)
	return nil
}

// argv is a list of words that Merge takes for one value.
type argv []string

func (in *intake) warnings() []string {
	if len(in.ignored) == 0 {
		return nil
	}
	slices.Sort(in.ignored)
	return []string{"these settings are accepted but have no effect: " + strings.Join(slices.Compact(in.ignored), ", ")}
}

// validate checks the values that conf does not know the meaning of.
func (c *Config) validate() error {
	errs := []error{c.Exec.validate("exec")}
	if c.MinInterval < 0 || c.Jitter < 0 || c.MaxStale < 0 || c.BlockWait < 0 {
		errs = append(errs, errors.New("min_interval, jitter, max_stale or block_query_wait is below zero"))
	}
	if _, err := wait(c.Quiescence); err != nil {
		errs = append(errs, fmt.Errorf("wait: %w", err))
	}
	for _, s := range []struct {
		key  string
		name *string
	}{{"reload_signal", c.ReloadSignal}, {"kill_signal", c.KillSignal}} {
		if s.name != nil {
			errs = append(errs, validSignal(s.key, *s.name))
		}
	}
	for i := range c.Templates {
		if err := c.Templates[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("template[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
