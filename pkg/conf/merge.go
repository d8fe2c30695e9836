package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Merge merges over into a copy of base; it changes neither. A scalar of over overrides,
// its lists are appended, its objects are merged; a null changes nothing.
func Merge(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = make(map[string]any, len(over))
	}
	for key, v := range over {
		out[key] = mergeValue(out[key], v)
	}
	return out
}

func mergeValue(base, over any) any {
	switch over := over.(type) {
	case nil:
		return base
	case map[string]any:
		b, _ := base.(map[string]any)
		return Merge(b, over) // also without a base: the result shares no map with over
	case []any:
		b, _ := base.([]any)
		out := slices.Clone(b)
		for _, v := range over {
			out = append(out, mergeValue(nil, v))
		}
		return out
	}
	return over
}

// Put sets the value of a dotted key in m, whatever it was. It makes the objects around it
// that are missing.
func Put(m map[string]any, key string, value any) {
	parts := strings.Split(key, ".")
	last := len(parts) - 1
	for _, part := range parts[:last] {
		inner, ok := m[part].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[part] = inner
		}
		m = inner
	}
	m[parts[last]] = value
}

// Nest makes nested objects of dotted keys ("ports.http" and its value), as flags
// and environment variables are named. It takes the value types that flags have:
// strings, numbers, booleans, durations, and lists and maps of them.
func Nest(flat map[string]any) (map[string]any, error) {
	out := make(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(flat)) {
		value, err := normalize(flat[path], 0)
		if err != nil {
			return nil, fmt.Errorf("setting %s: %w", path, err)
		}
		Put(out, path, value)
	}
	return out, nil
}
