package funcs

// mergeMap returns dst with what only src has, at every depth; an empty value of
// dst counts as missing. Neither argument is modified.
func mergeMap(dst, src map[string]any) map[string]any { return merge(dst, src, false) }

// mergeMapWithOverride returns dst with all of src; what src has wins unless it
// is empty.
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
		case !exists, override && !isEmpty(value), !override && isEmpty(old):
			out[key] = value
		}
	}
	return out
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case int:
		return v == 0
	case int64:
		return v == 0
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		return false
	}
}
