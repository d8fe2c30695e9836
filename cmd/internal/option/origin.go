package option

import "slices"

// Source is where a value is from; a set of them, where several give one.
type Source uint8

// The sources. Of the environment and files, which wins is for the table to say.
const (
	Environment Source = 1 << iota
	File
	Flag
)

// Origins say where settled values are from, by their dotted keys.
type Origins struct {
	order [3]Source // what wins last
	from  map[string]Source
	flag  map[string]string
}

// Has says whether that source gives a value, though another may win over it.
func (o Origins) Has(key string, s Source) bool { return o.from[key]&s != 0 }

// Flag is the name of the flag that gave a value, as it was spelled; "" if none did.
func (o Origins) Flag(key string) string { return o.flag[key] }

// Above says whether the source of one value wins over that of another.
func (o Origins) Above(key, other string) bool { return o.rank(key) > o.rank(other) }

// winner is the source whose value it is; 0 is the default.
func (o Origins) winner(key string) Source {
	if i := o.rank(key); i >= 0 {
		return o.order[i]
	}
	return 0
}

// rank is the place of the source that wins; -1 is that of the default.
func (o Origins) rank(key string) int {
	for i, s := range slices.Backward(o.order[:]) {
		if o.Has(key, s) {
			return i
		}
	}
	return -1
}
