package env

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep objects within objects become variables of their own; what is
// deeper stays JSON.
const maxDepth = 16

// Object makes pairs of the members of a JSON object: "db/host" of
// {"db": {"host": ...}}. A string is its value, a number or boolean is its JSON text, null
// is "", a list is JSON.
func Object(text, from string) ([]Pair, error) {
	m, err := parseObject(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return members(nil, "", from+"#", m, 0), nil
}

// expand is the pair itself unless its value is a JSON object.
func expand(p Pair) []Pair {
	m, err := parseObject(p.Value)
	if err != nil {
		return []Pair{p}
	}
	return members(nil, p.Key+"/", p.From+"#", m, 0)
}

func parseObject(text string) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("the value is no JSON object: %w", err)
	}
	if _, err := dec.Token(); m == nil || err != io.EOF {
		return nil, errors.New("the value is no JSON object")
	}
	if !utf8.ValidString(text) { // the decoder would put U+FFFD into the values
		return nil, errors.New("the value is no JSON object: it holds bytes that are no UTF-8")
	}
	return m, nil
}

func members(out []Pair, key, from string, m map[string]any, depth int) []Pair {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		inner, nested := m[name].(map[string]any)
		if nested && depth < maxDepth {
			out = members(out, key+name+"/", from+name+".", inner, depth+1)
			continue
		}
		out = append(out, Pair{Key: key + name, Value: scalar(m[name]), From: from + name})
	}
	return out
}

func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // it came from JSON
	return strings.TrimSuffix(b.String(), "\n")
}
