package conf

import (
	"reflect"
	"strings"
)

// Nearest returns the name that is most similar to key: a few typing mistakes away, or
// one is a prefix of the other. It returns "" if there is none.
func Nearest(key string, names []string) string {
	key = strings.ToLower(key)
	mistakes := max(1, len(key)/3)
	if len(key) > 4 {
		mistakes = max(2, mistakes)
	}
	best, bestDistance := "", mistakes+1
	for _, name := range names {
		if d := distance(key, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best != "" || len(key) < 3 {
		return best
	}
	for _, name := range names {
		if strings.HasPrefix(name, key) || len(name) > 3 && strings.HasPrefix(key, name) {
			return name
		}
	}
	return ""
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that make b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last, row []int
	for j := range len(b) + 1 {
		last = append(last, j)
	}
	for i := range len(a) {
		row = append(make([]int, 0, len(b)+1), i+1)
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row = append(row, d)
		}
		before, last = last, row
	}
	return last[len(b)]
}

// elsewhere finds a key of the same name in another section.
func elsewhere(t reflect.Type, key, path string) string {
	for _, f := range fileFields(t) {
		if path != "" && strings.EqualFold(f.name(), key) {
			return join(path, f.name())
		}
		if f.typ.Kind() == reflect.Struct && !isLeaf(f.typ) {
			if at := elsewhere(f.typ, key, join(path, f.name())); at != "" {
				return at
			}
		}
	}
	return ""
}
