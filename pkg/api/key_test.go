package api

import "testing"

func TestCleanKey(t *testing.T) {
	for key, want := range map[string]string{
		"": "", "a": "a", "a/": "a/", "a/b": "a/b", "/a": "a", "//a": "a", "a//b": "a/b", "a//": "a/", "./a": "a", "a/./b": "a/b",
		"a/../b": "b", "../a": "a", "a/..": "", "a/../": "", ".": "", "..": "", "/": "", "...": "...", "a/.b": "a/.b", "a?b=1": "a?b=1", "ü/ ": "ü/ ",
	} {
		if got := CleanKey(key); got != want {
			t.Errorf("CleanKey(%q) = %q, want %q", key, got, want)
		}
		if got := CleanKey(want); got != want {
			t.Errorf("CleanKey(%q) = %q, not the same again", want, got)
		}
	}
}
