package option

import "slices"

// Source is where a value is from; a set of them, where several give one.
type Source uint8

// The sources. The table says whether the environment or files win.
const (
	Environment Source = 1 << iota
	File
	Flag
)

// Origins say where the values of a table are from, by their dotted keys.
type Origins struct {
	order [3]Source // the last one wins
	from  map[string]Source
	flag  map[string]string
}

// Has reports whether that source gives a value; another source may override it.
func (o Origins) Has(key string, s Source) bool { return o.from[key]&s != 0 }

// Flag is the name of the flag that gave a value, as it was spelled; "" if none did.
func (o Origins) Flag(key string) string { return o.flag[key] }

// Overrides reports whether the value of key has a source that wins over that of other.
func (o Origins) Overrides(key, other string) bool { return o.rank(key) > o.rank(other) }

// winner is the source of the value; 0 is the default.
func (o Origins) winner(key string) Source {
	if i := o.rank(key); i >= 0 {
		return o.order[i]
	}
	return 0
}

// rank is the place in order of the source of the value; -1 is the default.
func (o Origins) rank(key string) int {
	for i, s := range slices.Backward(o.order[:]) {
		if o.Has(key, s) {
			return i
		}
	}
	return -1
}
