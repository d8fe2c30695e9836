package funcs

import "reflect"

// mergeMap returns dst with what only src has, at every depth; an empty value of
// dst counts as missing. Neither argument is modified.
func mergeMap(dst, src map[string]any) map[string]any { return merge(dst, src, false) }

// mergeMapWithOverride returns dst with all of src: src wins, also where its value is
// empty or nil. Two maps are merged, they never replace each other.
func mergeMapWithOverride(dst, src map[string]any) map[string]any { return merge(dst, src, true) }

func merge(dst, src map[string]any, override bool) map[string]any {
	out := make(map[string]any, len(dst)+len(src))
	for key, value := range dst {
		out[key] = value
	}
	for key, value := range src {
		old, exists := out[key]
		oldMap, isMap := old.(map[string]any)
		newMap, bothMaps := value.(map[string]any)
		switch {
		case isMap && bothMaps:
			out[key] = merge(oldMap, newMap, override)
		case !exists, override, isEmpty(old):
			out[key] = value
		}
	}
	return out
}

// isEmpty reports whether v is nil, the zero value of its type, or holds nothing.
func isEmpty(v any) bool {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return r.Len() == 0
	case reflect.Struct:
		return false
	default:
		return r.IsZero()
	}
}
