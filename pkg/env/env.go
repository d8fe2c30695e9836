// Package env turns keys and values into environment variables and prints them. It
// is pure: no I/O, no clock.
//
// It promises that the same data give the same variables in the same order; that a later
// source wins over an earlier one, and the variable says which keys it hides; that two
// keys of one source with the same name are an error that names both; and that an
// environment can hold every variable.
package env

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Limits of what becomes an environment. The operating system has its own for all of
// it together.
const (
	MaxVars  = 10_000
	MaxValue = 128<<10 - 1024 // bytes; Linux takes no longer "NAME=value" than 128 KiB
)

// Pair is a key as its source names it, and its value.
type Pair struct {
	Key   string // relative to the source
	Value string
	From  string // where it is from, for people: the whole key
}

// Source is a set of pairs and how their keys become names.
type Source struct {
	Name     string // for people
	Pairs    []Pair
	Prepend  string // put before each key, with a _
	Format   *Format
	Expand   bool // a value that is a JSON object becomes a variable for each of its members
	LastWins bool // several pairs may have one name; otherwise that is an error
}

// Rules are for all sources.
type Rules struct {
	Raw    bool     // keep all characters; else each outside [A-Za-z0-9_] becomes _
	Upcase bool     // upper-case names
	Deny   []string // globs of names that are left out
}

// Var is one variable.
type Var struct {
	Name, Value string
	From        string   // the key
	Source      string   // the source's name
	Hides       []string // keys of earlier sources that had the same name
}

func (v Var) String() string { return v.Name + "=" + v.Value }

// Build makes the variables of all sources, sorted by name.
func Build(sources []Source, rules Rules) ([]Var, error) {
	all := map[string]Var{}
	for _, s := range sources {
		own, err := s.vars(rules)
		if err != nil {
			return nil, err
		}
		for name, v := range own {
			if old, hidden := all[name]; hidden {
				v.Hides = append(slices.Clone(old.Hides), old.From)
			}
			all[name] = v
		}
	}
	if len(all) > MaxVars {
		return nil, fmt.Errorf("%d variables are more than the limit of %d", len(all), MaxVars)
	}
	out := make([]Var, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !denied(rules.Deny, name) {
			out = append(out, all[name])
		}
	}
	return out, nil
}

func denied(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		hit, err := path.Match(p, name)
		return err == nil && hit
	})
}

// vars are those of one source.
func (s Source) vars(rules Rules) (map[string]Var, error) {
	pairs := s.Pairs
	if s.Expand {
		pairs = nil
		for _, p := range s.Pairs {
			pairs = append(pairs, expand(p)...)
		}
	}
	out := map[string]Var{}
	for _, p := range pairs {
		name, err := s.name(p.Key, rules)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Printable(p.From), err)
		}
		if name == "" {
			continue
		}
		if err := valid(name, p.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", Printable(p.From), err)
		}
		if other, twice := out[name]; twice && !s.LastWins {
			return nil, fmt.Errorf("%s and %s both become %s: rename one of the keys, or give one a format or a prefix of its own",
				Printable(other.From), Printable(p.From), Printable(name))
		}
		out[name] = Var{Name: name, Value: p.Value, From: p.From, Source: s.Name}
	}
	return out, nil
}

// valid returns an error if an environment cannot hold a variable.
func valid(name, value string) error {
	switch {
	case strings.ContainsAny(name, "=\x00"):
		return fmt.Errorf("%q is no name for a variable: it holds = or a zero byte", name)
	case strings.IndexByte(value, 0) >= 0:
		return errors.New("the value holds a zero byte, which an environment cannot")
	case len(name)+len(value) > MaxValue:
		return fmt.Errorf("the value has %d bytes, more than the limit of %d", len(value), MaxValue-len(name))
	}
	return nil
}

// Environ returns the variables as NAME=value.
func Environ(vars []Var) []string {
	out := make([]string, len(vars))
	for i, v := range vars {
		out[i] = v.String()
	}
	return out
}
