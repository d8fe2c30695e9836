package funcs

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// maxExact is the largest n for which a float64 holds every whole number up to n.
const maxExact = 1 << 53

// whole is a whole number of JSON, at most maxExact away from 0. Templates written for
// consul-template take every number of JSON for a float64 (they compare it with 5.0 and
// print it with "%.0f"), so it is one; but it prints and encodes as the digits that it was.
type whole float64

// large is a whole number of JSON that a float64 cannot hold.
type large int64

func (w whole) String() string { return strconv.FormatInt(int64(w), 10) }

// Format prints an integer for the verbs of integers and texts, and a float for those of floats.
func (w whole) Format(f fmt.State, verb rune) { formatWhole(f, verb, int64(w)) }

func (l large) String() string { return strconv.FormatInt(int64(l), 10) }

// Format is that of whole.
func (l large) Format(f fmt.State, verb rune) { formatWhole(f, verb, int64(l)) }

func formatWhole(f fmt.State, verb rune, n int64) {
	switch verb {
	case 'e', 'E', 'f', 'F', 'g', 'G':
		fmt.Fprintf(f, fmt.FormatString(f, verb), float64(n))
	case 's', 'q':
		fmt.Fprintf(f, fmt.FormatString(f, verb), strconv.FormatInt(n, 10))
	case 'v':
		fmt.Fprintf(f, fmt.FormatString(f, 'd'), n)
	default:
		fmt.Fprintf(f, fmt.FormatString(f, verb), n)
	}
}

// wholeNumber is n in the type that can hold it.
func wholeNumber(n int64) any {
	if n >= -maxExact && n <= maxExact {
		return whole(n)
	}
	return large(n)
}

// isWhole reports whether v is a whole number of JSON.
func isWhole(v any) bool {
	switch v.(type) {
	case whole, large:
		return true
	}
	return false
}

// ofJSON replaces the numbers in what encoding/json made with UseNumber. What is
// written with a point or an exponent is a float64, everything else stays whole: there is
// a *big.Int for what has more digits than an int64.
func ofJSON(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		return numberOf(v)
	case []any:
		for i := range v {
			if v[i], err = ofJSON(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], err = ofJSON(v[key]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func numberOf(n json.Number) (any, error) {
	if strings.ContainsAny(n.String(), ".eE") {
		return n.Float64()
	}
	if i, err := n.Int64(); err == nil {
		return wholeNumber(i), nil
	}
	i, ok := new(big.Int).SetString(n.String(), 10)
	if !ok {
		return nil, fmt.Errorf("%s is not a number", n)
	}
	return i, nil
}

// plainNumbers replaces the number types above by Go's own in lists and maps, for
// encoders that do not know them. v is not modified.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case whole:
		return int64(v)
	case large:
		return int64(v)
	case *big.Int:
		if v != nil && v.IsUint64() {
			return v.Uint64()
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plainNumbers(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = plainNumbers(v[key])
		}
		return out
	case map[any]any:
		out := make(map[any]any, len(v))
		for key := range v {
			out[plainNumbers(key)] = plainNumbers(v[key])
		}
		return out
	}
	return v
}
