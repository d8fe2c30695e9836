package client

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// TestPathsNameWhatTheyShould: no id is cleaned away, and none reads as another.
func TestPathsNameWhatTheyShould(t *testing.T) {
	c, err := New(Config{Address: "http://127.0.0.1:1/base"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		"web", "a b", "http://a/b", "a//b", "/a", "//a", "a/", "a///b", ".", "..", "a/../b", "./a", "a/.", "a\u2028b", "a\x01b", "\x00",
		"a%2fb", "a?b", "a#b", "größe", "\u200b", "...", "a/..b",
	} {
		u, err := url.Parse(c.url("/v1/agent/service/deregister/"+id, nil))
		if err != nil {
			t.Fatal(err)
		}
		if want := "/base/v1/agent/service/deregister/" + id; u.Path != want {
			t.Errorf("%q is sent as %q", want, u.Path)
		}
		raw := u.EscapedPath()
		if clean := path.Clean(raw); clean != strings.TrimSuffix(raw, "/") {
			t.Errorf("%q: %s would be cleaned to %s", id, raw, clean)
		}
	}
}
