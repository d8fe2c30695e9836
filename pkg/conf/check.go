package conf

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxReported bounds how many mistakes one error lists.
const maxReported = 10

// Checked is a file without mistakes.
type Checked struct {
	// Map has the keys as the tags spell them, values of the fields' types, no
	// nulls, and objects where the struct has objects.
	Map map[string]any
	// Ignored lists the keys that are set but have no effect, sorted.
	Ignored []string
}

// Check compares a parsed file with a struct: schema, or what schema points to. The error
// names the file and every key that is unknown or has a value of the wrong type. Where
// the struct has one object, a list of objects is merged into one (HCL makes a list of
// every block); where it has a list, a single value becomes a list of one.
func Check(name string, m map[string]any, schema any) (Checked, error) {
	t := reflect.TypeOf(schema)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	f := checker{root: t}
	out := f.object("", m, t)
	if len(f.errs) > 0 {
		if extra := len(f.errs) - maxReported; extra > 0 {
			f.errs = append(f.errs[:maxReported], fmt.Sprintf("and %d more", extra))
		}
		return Checked{}, fmt.Errorf("failed to parse %s: %s", name, strings.Join(f.errs, "; "))
	}
	slices.Sort(f.ignored)
	return Checked{Map: out, Ignored: slices.Compact(f.ignored)}, nil
}

type checker struct {
	root    reflect.Type
	ignored []string
	errs    []string
}

func (f *checker) fail(format string, args ...any) {
	f.errs = append(f.errs, fmt.Sprintf(format, args...))
}

func (f *checker) value(path string, v any, t reflect.Type) any {
	if v == nil {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		return f.value(path, v, t.Elem())
	}
	if isObject(t) {
		m, ok := asObject(v)
		if !ok {
			f.fail("%s: an object is needed here, not %s", path, describe(v))
			return nil
		}
		return f.object(path, m, t)
	}
	switch {
	case t.Kind() == reflect.Interface:
		return v
	case t.Kind() == reflect.Slice && !isLeaf(t):
		return f.list(path, v, t.Elem())
	}
	leaf, err := convert(v, t)
	if err != nil {
		f.fail("%s: %v", path, err)
		return nil
	}
	return leaf.Interface()
}

func (f *checker) list(path string, v any, elem reflect.Type) any {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]any, 0, len(list))
	for i, element := range list {
		if value := f.value(fmt.Sprintf("%s[%d]", path, i), element, elem); value != nil {
			out = append(out, value)
		}
	}
	return out
}

func (f *checker) object(path string, m map[string]any, t reflect.Type) map[string]any {
	out := make(map[string]any, len(m))
	if t.Kind() == reflect.Map {
		for key, v := range m {
			if value := f.value(join(path, key), v, t.Elem()); value != nil {
				out[key] = value
			}
		}
		return out
	}
	fields := fileFields(t)
	spelled := make(map[string]string) // the field's name -> as the file spells it
	for _, key := range slices.Sorted(maps.Keys(m)) {
		fl, known := findField(fields, key)
		if !known {
			f.unknown(path, key, fields)
			continue
		}
		if other, twice := spelled[fl.name()]; twice {
			f.fail("%s and %s are the same setting: keep one", join(path, other), join(path, key))
			continue
		}
		spelled[fl.name()] = key
		f.setting(join(path, fl.name()), m[key], fl, out)
	}
	return out
}

func (f *checker) setting(path string, v any, fl field, out map[string]any) {
	if (fl.ignored || fl.unused) && !isEmpty(v) {
		f.ignored = append(f.ignored, path)
	}
	if fl.ignored || fl.silent {
		return
	}
	if value := f.value(path, v, fl.typ); value != nil {
		out[fl.name()] = value
	}
}

func (f *checker) unknown(path, key string, fields []field) {
	text := "invalid config key " + join(path, key)
	var names []string
	for _, fl := range fields {
		names = append(names, fl.name())
	}
	if near := Nearest(key, names); near != "" {
		text += fmt.Sprintf(" (did you mean %s?)", join(path, near))
	} else if at := elsewhere(f.root, key, ""); at != "" {
		text += fmt.Sprintf(" (did you mean %s?)", at)
	}
	f.errs = append(f.errs, text)
}

// asObject returns v as an object. A list of objects is merged.
func asObject(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case []any:
		var out map[string]any
		for _, element := range v {
			m, ok := element.(map[string]any)
			if !ok {
				return nil, false
			}
			out = Merge(out, m)
		}
		return out, len(v) > 0
	}
	return nil, false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, value := range v {
			if !isEmpty(value) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

// describe names the kind of a value for an error.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "an object"
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case string:
		if len(v) > 40 {
			v = v[:40] + "..."
		}
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}
