package cli

import (
	"fmt"
	"path"
	"strings"
)

// Env says what a child's environment consists of. Patterns are globs; Deny wins over
// Allow, and Custom is always set.
type Env struct {
	Pristine bool     `conf:"pristine"`            // no variable of our own
	Custom   []string `conf:"custom"`              // NAME=value
	Allow    []string `conf:"allowlist|whitelist"` // only these of our own; empty: all
	Deny     []string `conf:"denylist|blacklist"`
}

// Given says whether anything is set.
func (e Env) Given() bool {
	return e.Pristine || len(e.Custom)+len(e.Allow)+len(e.Deny) > 0
}

// Build makes the child's environment: own and extra, filtered, then Custom. A later
// value of a name wins.
func (e Env) Build(own, extra []string) ([]string, error) {
	for _, pair := range e.Custom {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
			return nil, fmt.Errorf("%q in the custom environment is not NAME=value", pair)
		}
	}
	for _, pattern := range append(append([]string{}, e.Allow...), e.Deny...) {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("environment pattern %q: %w", pattern, err)
		}
	}
	var all []string
	if !e.Pristine {
		all = append(all, own...)
	}
	var out []string
	for _, pair := range append(all, extra...) {
		name, _, _ := strings.Cut(pair, "=")
		if len(e.Allow) > 0 && !matches(e.Allow, name) || matches(e.Deny, name) {
			continue
		}
		out = append(out, pair)
	}
	return unique(append(out, e.Custom...)), nil
}

// Passes says whether the child gets our own variable of that name.
func (e Env) Passes(name string) bool {
	return !e.Pristine && (len(e.Allow) == 0 || matches(e.Allow, name)) && !matches(e.Deny, name)
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if hit, err := path.Match(p, name); err == nil && hit {
			return true
		}
	}
	return false
}

// unique keeps the last value of each name: of several, some programs use the first.
func unique(pairs []string) []string {
	last := map[string]int{}
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		last[name] = i
	}
	out := []string{}
	for i, pair := range pairs {
		if name, _, _ := strings.Cut(pair, "="); last[name] == i {
			out = append(out, pair)
		}
	}
	return out
}
