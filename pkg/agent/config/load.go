package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-dev/muster/pkg/conf"
)

// Sources are the places that the configuration is read from; a later one wins.
type Sources struct {
	Dev       bool     // -dev
	Paths     []string // -config-file and -config-dir, in the order of the command line
	Format    string   // -config-format; "" goes by the file name
	Fragments []string // -hcl
	// Flags are the settings of the command line by dotted key ("ports.http"). Lists are
	// appended to the lists of earlier sources, as for every source.
	Flags map[string]any
}

// Load reads all sources and returns the merged configuration, and warnings for the log.
// At most one warning is about keys without effect, and one about deprecated keys.
func Load(src Sources) (*Config, []string, error) {
	in := sources{merged: defaults()}
	if src.Dev {
		in.merged = conf.Merge(in.merged, devDefaults())
	}
	if err := in.read(src); err != nil {
		return nil, nil, err
	}
	var doc document
	if err := conf.Decode(derive(in.merged), &doc); err != nil {
		return nil, nil, fmt.Errorf("failed to read config: %w", err)
	}
	if err := validText("", in.merged); err != nil {
		return nil, nil, err
	}
	cfg := &doc.Config
	cfg.Dev = src.Dev
	if err := cfg.definitions(&doc); err != nil {
		return nil, nil, err
	}
	if err := cfg.normalize(); err != nil {
		return nil, nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	// A file that is shared by many agents may set the port without a certificate, so that
	// is only a warning. Whoever sets it on the command line expects an open port.
	if port, ok := src.Flags["ports.https"].(int); ok && port > 0 {
		return nil, nil, notBuilt("ports.https", "-https-port would open nothing: serve HTTP, and let a proxy add TLS")
	}
	return cfg, append(in.warnings(), cfg.warnings()...), nil
}

// validText refuses texts of the catalog that are not UTF-8. JSON would change them, so
// the catalog's copy would never equal the configured one. Other keys, such as file
// names, may have any bytes.
func validText(path string, v any) error {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("%s: %q is not UTF-8", path, v)
		}
	case []any:
		for i, element := range v {
			if err := validText(fmt.Sprintf("%s[%d]", path, i), element); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := key
			if path != "" {
				at = path + "." + key
			} else if !slices.Contains([]string{"node_name", "node_meta", "tagged_addresses", "services", "checks"}, key) {
				continue
			}
			if !utf8.ValidString(key) {
				return fmt.Errorf("%s: the key %q is not UTF-8", path, key)
			}
			if err := validText(at, v[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sources collects the merged keys of the Sources, and what to warn about.
type sources struct {
	merged     map[string]any
	ignored    []string
	deprecated []string
	skipped    []string
	empty      []string
}

func (in *sources) read(src Sources) error {
	format, err := conf.ParseFormat(src.Format)
	if err != nil {
		return fmt.Errorf("config: -config-format must be either 'hcl' or 'json', 'yaml' or 'toml', not %q", src.Format)
	}
	for _, path := range src.Paths {
		files, skipped, err := conf.ReadPath(path, format)
		if err != nil {
			return err
		}
		in.skipped = append(in.skipped, skipped...)
		for _, file := range files {
			if len(file.Map) == 0 {
				in.empty = append(in.empty, file.Name)
			}
			if err := in.add(file.Name, file.Map); err != nil {
				return err
			}
		}
	}
	for _, fragment := range src.Fragments {
		m, err := conf.Parse("-hcl", []byte(fragment), conf.HCL)
		if err != nil {
			return err
		}
		if err := in.add("-hcl", m); err != nil {
			return err
		}
	}
	flags, err := conf.Nest(src.Flags)
	if err != nil {
		return fmt.Errorf("failed to read flags: %w", err)
	}
	return in.add("flags", flags)
}

func (in *sources) add(name string, m map[string]any) error {
	fitted, err := conf.Check(name, m, document{})
	if err != nil {
		return err
	}
	fresh, deprecated := migrateKeys(fitted.Map)
	in.ignored = append(in.ignored, fitted.Ignored...)
	in.deprecated = append(in.deprecated, deprecated...)
	in.merged = conf.Merge(in.merged, fresh)
	return nil
}

func (in *sources) warnings() []string {
	inList := regexp.MustCompile(`\[\d+\]`)
	var out []string
	for _, w := range []struct {
		text string
		keys []string
	}{
		{"config: these keys are accepted but have no effect: ", in.ignored},
		{"config: these keys are deprecated: ", in.deprecated},
		{"config: these files were skipped, their extension is none of .hcl, .json, .yaml, .yml, .toml: ", in.skipped},
		{"config: these files hold no key: ", in.empty},
	} {
		if len(w.keys) > 0 {
			for i, key := range w.keys {
				w.keys[i] = inList.ReplaceAllString(key, "[]") // list a key once, however many services have it
			}
			slices.Sort(w.keys)
			out = append(out, w.text+strings.Join(slices.Compact(w.keys), ", "))
		}
	}
	return out
}
