package handlers

import (
	"strings"
	"testing"
)

// A key of a watch means the path that every server makes of it; one that leads out of the
// store is refused.
func TestKeysOfWatches(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string // the query; "": refused
	}{
		{Spec{Type: typeKey, Key: "app/port"}, "/v1/kv/app/port"},
		{Spec{Type: typeKey, Key: "/app//./x/../port"}, "/v1/kv/app/port"},
		{Spec{Type: typeKeyPrefix, Prefix: "app//"}, "/v1/kv/app/?recurse="},
		{Spec{Type: typeKeyPrefix, Prefix: "/"}, "/v1/kv/?recurse="},
		{Spec{Type: typeKey, Key: "../agent/self"}, ""},
		{Spec{Type: typeKey, Key: "."}, ""},
		{Spec{Type: typeKeyPrefix, Prefix: ".."}, ""},
	} {
		err := c.spec.Check()
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), "leads out of the key/value store") {
				t.Errorf("%+v: %v", c.spec, err)
			}
		} else if got := c.spec.Request().String(); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v; want %s", c.spec, got, err, c.want)
		}
	}
}
