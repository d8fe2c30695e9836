// Package conf reads configuration files in four formats (JSON, HCL, YAML,
// TOML) into one shape, so that nothing above it knows which format a setting
// came from.
//
// A setting takes four steps. [ReadPath] or [Parse] returns a map that keeps the case of
// every key. [Check] compares that map with a Go struct, and finds unknown keys and wrong
// types while the file's name is still known. [Merge] merges the maps of several files
// (scalars override, lists append, maps merge). [Decode] fills the struct.
//
// It promises that a mistake is reported with the file, the key and, for an
// unknown key, the nearest known one; that no input makes it panic; and that
// files, directories and nesting have limits.
//
// The struct says what is known by its field tags:
//
//	Name  string `conf:"node_name"`             the key
//	Args  []string `conf:"args|script_args"`    further spellings of the same key
//	Acl   ACL `conf:"acl,unused"`               checked, but reported as having no effect
//	_     any `conf:"connect|peering,ignored"`  accepted unchecked, reported as having no effect
//	_     any `conf:"version,silent"`           accepted unchecked, not reported
//	Dry   bool `conf:"dry,flag"`                for the command line only: no key of a file
//	Inner `conf:",squash"`                      an embedded struct whose keys stand here
//
// Keys match without regard to case. Keys of Go maps are chosen by the user and stay as
// they are written.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Format is a file format.
type Format string

// The formats; the empty Format means "by the file's extension".
const (
	JSON Format = "json"
	HCL  Format = "hcl"
	YAML Format = "yaml"
	TOML Format = "toml"
)

// Limits on what is read.
const (
	MaxFileSize = 4 << 20 // bytes in one file
	MaxDirFiles = 1000    // files in one directory
	MaxNesting  = 256     // brackets within brackets
)

// File is one file that was read and parsed.
type File struct {
	Name string
	Map  map[string]any
}

// ParseFormat reads the name of a format; "" is the empty Format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case "", JSON, HCL, YAML, TOML:
		return f, nil
	case "yml":
		return YAML, nil
	}
	return "", fmt.Errorf("unknown config format %q: use json, hcl, yaml or toml", s)
}

// FormatOf is the format of a file by its extension; "" for an extension of none.
func FormatOf(path string) Format {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return JSON
	case ".hcl":
		return HCL
	case ".yaml", ".yml":
		return YAML
	case ".toml":
		return TOML
	}
	return ""
}

// ReadPath reads a file, or the files of a directory: not its subdirectories,
// sorted by name, symlinks followed. In a directory files with another extension
// are left out and named in skipped, unless format says what they all are.
func ReadPath(path string, format Format) (files []File, skipped []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to read config: %w", err)
	}
	if info.IsDir() {
		return readDir(path, format)
	}
	m, err := ReadFile(path, format)
	if err != nil {
		return nil, nil, err
	}
	return []File{{path, m}}, nil, nil
}

// ReadFile reads one file.
func ReadFile(path string, format Format) (map[string]any, error) {
	if format == "" {
		if format = FormatOf(path); format == "" {
			return nil, fmt.Errorf("file %s has unknown extension; must be .hcl, .json, .yaml, .yml or .toml, or config format must be set", path)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("failed to read config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("failed to read config %s: %w", path, err)
	}
	return Parse(path, data, format)
}

func readDir(dir string, format Format) (files []File, skipped []string, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, nil, fmt.Errorf("failed to read config directory: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if !isFile(path) {
			continue
		}
		if format == "" && FormatOf(path) == "" {
			skipped = append(skipped, path)
			continue
		}
		if len(files) == MaxDirFiles {
			return nil, nil, fmt.Errorf("config directory %s has more than %d files", dir, MaxDirFiles)
		}
		m, err := ReadFile(path, format)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, File{path, m})
	}
	return files, skipped, nil
}

// isFile follows symlinks. A broken one counts as a file: reading it reports an error,
// where skipping it would not.
func isFile(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true
	}
	return info.Mode().IsRegular()
}

// Parse reads data in the given format; name is for errors only. In the result
// objects are map[string]any, lists []any, and scalars string, bool, int64 or
// float64. An HCL block is a list of objects even if it stands once: Check makes it
// an object where the struct has one.
func Parse(name string, data []byte, format Format) (map[string]any, error) {
	m, err := parse(data, format)
	if err != nil {
		return nil, fmt.Errorf("failed to parse %s: %w", name, err)
	}
	return m, nil
}

func parse(data []byte, format Format) (map[string]any, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("larger than %d bytes", MaxFileSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark
	if err := checkNesting(data); err != nil {
		return nil, err
	}
	switch format {
	case JSON:
		return parseJSON(data)
	case HCL:
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
			return parseJSON(data) // JSON is accepted as HCL
		}
		return parseHCL(data)
	case YAML:
		return parseYAML(data)
	case TOML:
		return parseTOML(data)
	}
	return nil, fmt.Errorf("unknown config format %q", format)
}

// checkNesting guards the recursive parsers below: the stack of a goroutine that
// grows too large ends the program, which no recover can stop. It counts brackets
// in strings too, so the limit is generous.
func checkNesting(data []byte) error {
	depth := 0
	for _, c := range data {
		switch c {
		case '{', '[':
			if depth++; depth > MaxNesting {
				return errors.New("brackets are nested too deeply")
			}
		case '}', ']':
			depth = max(0, depth-1)
		}
	}
	return nil
}
