package funcs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// helpers lists every function that needs no pass. Consul-template's own names
// come last: they win over sprig's.
func helpers() template.FuncMap {
	all := template.FuncMap{}
	for name, fn := range repeatableSprig() {
		all["sprig_"+name] = fn
		if name != "slice" { // a builtin of text/template
			all[name] = fn
		}
	}
	maps.Copy(all, unsupported())
	maps.Copy(all, template.FuncMap{
		"base64Decode":    base64Decode,
		"base64Encode":    base64Encode,
		"base64URLDecode": base64URLDecode,
		"base64URLEncode": base64URLEncode,
		"sha256Hex":       sha256Hex,
		"md5sum":          md5sum,
		"hmacSHA256Hex":   hmacSHA256Hex,

		"byKey":  byKey,
		"byTag":  byTag,
		"byPort": byPort,
		"byMeta": byMeta,

		"contains":       func(v, list any) bool { return in(list, v) },
		"containsAll":    containsAll,
		"containsAny":    containsAny,
		"containsNone":   containsNone,
		"containsNotAll": containsNotAll,
		"in":             in,

		"explode":              explode,
		"explodeMap":           explodeMap,
		"mergeMap":             mergeMap,
		"mergeMapWithOverride": mergeMapWithOverride,
		"splitToMap":           splitToMap,

		"indent":          indent,
		"join":            join,
		"split":           split,
		"trim":            func(cutset, s string) string { return strings.Trim(s, cutset) },
		"trimPrefix":      func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"trimSuffix":      func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"trimSpace":       strings.TrimSpace,
		"replaceAll":      func(from, to, s string) string { return strings.ReplaceAll(s, from, to) },
		"regexMatch":      regexMatch,
		"regexReplaceAll": regexReplaceAll,
		"toLower":         strings.ToLower,
		"toUpper":         strings.ToUpper,
		"toTitle":         toTitle,

		"parseBool":  parseBool,
		"parseFloat": parseFloat,
		"parseInt":   parseInt,
		"parseUint":  parseUint,
		"parseJSON":  parseJSON,
		"parseYAML":  parseYAML,

		"toJSON":                toJSON,
		"toJSONPretty":          toJSONPretty,
		"toUnescapedJSON":       toUnescapedJSON,
		"toUnescapedJSONPretty": toUnescapedJSONPretty,
		"toYAML":                toYAML,
		"toTOML":                toTOML,

		"add":      add,
		"subtract": subtract,
		"multiply": multiply,
		"divide":   divide,
		"modulo":   modulo,
		"minimum":  minimum,
		"maximum":  maximum,

		"loop":         loop,
		"timestamp":    timestamp,
		"sockaddr":     sockaddr,
		"spew_sdump":   spewSdump,
		"spew_sprintf": spewSprintf,
	})
	return all
}

// repeatableSprig is sprig with the functions mended that return the keys of a
// map in the map's random order: an unchanged template must not change its text.
// Functions of the clock and of randomness are unchanged.
func repeatableSprig() template.FuncMap {
	all := sprig.TxtFuncMap()
	all["keys"] = func(dicts ...map[string]any) []string {
		keys := []string{}
		for _, d := range dicts {
			keys = append(keys, sortedKeys(d)...)
		}
		return keys
	}
	all["values"] = func(dict map[string]any) []any {
		values := []any{}
		for _, key := range sortedKeys(dict) {
			values = append(values, dict[key])
		}
		return values
	}
	return all
}

// unsupported are the functions of consul-template that need another server or a
// service mesh.
func unsupported() template.FuncMap {
	all := template.FuncMap{}
	for subject, names := range map[string][]string{
		"Vault": {"secret", "secrets", "pkiCert"},
		"Nomad": {"nomadServices", "nomadService", "nomadVarList", "nomadVarListSafe", "nomadVar", "nomadVarExists"},
		"the service mesh or an enterprise feature": {
			"connect", "caRoots", "caLeaf", "peerings", "partitions", "exportedServices", "importedServices",
		},
	} {
		for _, name := range names {
			err := fmt.Errorf("%s needs %s, which is %w", name, subject, ErrUnsupported)
			all[name] = func(...any) (string, error) { return "", err }
		}
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// number converts any integer to an int64: an argument may be a constant, a len or the
// result of parseInt.
func number(v any) (int64, error) {
	r := reflect.ValueOf(v)
	switch {
	case !r.IsValid():
	case r.CanInt():
		return r.Int(), nil
	case r.CanUint() && r.Uint() <= 1<<63-1:
		return int64(r.Uint()), nil
	case r.CanFloat() && r.Float() == float64(int64(r.Float())): // JSON, parseFloat
		return int64(r.Float()), nil
	}
	return 0, fmt.Errorf("%v (%T) is not an integer", v, v)
}
