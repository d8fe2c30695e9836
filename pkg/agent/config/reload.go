package config

import (
	"reflect"
	"slices"

	"github.com/muster-dev/muster/pkg/conf"
)

// NotReloadable lists the keys that differ between the running and the next
// configuration but need a restart to take effect. Keys without any effect are left out:
// Load warns about them.
func NotReloadable(running, next *Config) []string {
	before, after := conf.Walk(running), conf.Walk(next)
	var out []string
	for i, p := range before {
		if slices.Contains(p.Options, "reload") || slices.Contains(p.Options, "unused") || same(p.Value, after[i].Value) {
			continue
		}
		out = append(out, p.Key)
	}
	return out
}

// same says whether two values are equal. An empty list or map equals an absent one.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Slice, reflect.Map:
		if a.Len() == 0 && b.Len() == 0 {
			return true
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
