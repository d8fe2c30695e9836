// Package settings is what the configuration files of consul-template and envconsul
// have in common, for the tools that read them unchanged: how files and directories are
// merged, and the blocks that say which agent is asked, what is run in which environment,
// and how long a change waits for others.
//
// It promises that an unknown key is an error that names the file and the most similar
// key; that a wrong value is an error, too; and that settings without effect are accepted
// and named in one warning.
package settings

import (
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
	Paths      []string // files and directories, in the order of the command line
	Inline     string   // a file's text, from the environment variable InlineName
	InlineName string
}

// File is the whole of a tool's configuration: a pointer to a struct with the tags of
// package conf.
type File[T any] interface {
	*T
	// Validate checks the values that conf does not know the meaning of.
	Validate() error
}

// Read reads every source, checks each by itself, and returns them merged, for
// conf.Decode. migrate, which may be nil, replaces old spellings of keys and returns
// warnings about them. The warnings are for the log; there is at most one about keys
// without effect.
func Read[T any, P File[T]](src Sources, migrate func(map[string]any) []string) (settings map[string]any, warnings []string, err error) {
	in := reader{migrate: migrate, schema: *new(T)}
	in.check = func(m map[string]any) error {
		var one T
		if err := conf.Decode(m, &one); err != nil {
			return err
		}
		return P(&one).Validate()
	}
	for _, path := range src.Paths {
		if err := in.path(path); err != nil {
			return nil, nil, err
		}
	}
	if strings.TrimSpace(src.Inline) != "" {
		m, err := conf.Parse(src.InlineName, []byte(src.Inline), conf.HCL)
		if err == nil {
			err = in.add(src.InlineName, m)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return in.merged, in.warnings(), nil
}

// reader reads and merges the sources.
type reader struct {
	schema  any
	check   func(map[string]any) error // one source by itself
	migrate func(map[string]any) []string
	merged  map[string]any
	ignored []string
	remarks []string
	files   int
}

// path reads a file, or all files below a directory. As in consul-template, a file with
// none of the known extensions is HCL, of which JSON is a part.
func (in *reader) path(path string) error {
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

func (in *reader) file(path string) error {
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

// add checks one source and merges it into those before.
func (in *reader) add(name string, m map[string]any) error {
	if address, ok := m["consul"].(string); ok { // the short form
		m["consul"] = map[string]any{"address": address}
	}
	if in.migrate != nil {
		for _, remark := range in.migrate(m) {
			in.remarks = append(in.remarks, name+": "+remark)
		}
	}
	fitted, err := conf.Check(name, m, in.schema)
	if err != nil {
		return err
	}
	if err := in.check(fitted.Map); err != nil {
		return fmt.Errorf("failed to parse %s: %w", name, err)
	}
	// A command of several words replaces that of an earlier source; as a list it would be
	// appended.
	if exec, ok := fitted.Map["exec"].(map[string]any); ok && exec["command"] != nil {
		words, _ := Words(exec["command"]) // checked
		exec["command"] = argv(words)
	}
	in.ignored = append(in.ignored, fitted.Ignored...)
	in.merged = conf.Merge(in.merged, fitted.Map)
	return nil
}

// argv is a list of words that conf.Merge replaces as one value.
type argv []string

func (in *reader) warnings() []string {
	if len(in.ignored) == 0 {
		return in.remarks
	}
	slices.Sort(in.ignored)
	return append(in.remarks, "these settings are accepted but have no effect: "+strings.Join(slices.Compact(in.ignored), ", "))
}
