package funcs

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// toTOML writes what consul-template's toTOML writes, byte for byte: a file must not
// change because another tool renders it. Keys are sorted, those with plain values come
// before tables, tables are indented by two blanks for each level. A value that is no
// map is written alone, which is no TOML document but useful in a line of one.
func toTOML(v any) (string, error) {
	w := &tomlWriter{}
	if err := w.document(tomlValue(reflect.ValueOf(v))); err != nil {
		return "", fmt.Errorf("toTOML: %w", err)
	}
	return strings.TrimSpace(w.b.String()), nil
}

type tomlWriter struct{ b strings.Builder }

// tomlField is one key of a map or a struct.
type tomlField struct {
	key   string
	value reflect.Value
}

func (w *tomlWriter) document(v reflect.Value) error {
	switch {
	case isTable(v):
		return w.table(nil, v)
	case isTables(v):
		return errors.New("a list of tables needs a name: only a map or one object can be a document")
	default:
		return w.inline(v)
	}
}

// table writes the keys of a table whose header has been written.
func (w *tomlWriter) table(path []string, v reflect.Value) error {
	fields, err := tomlFields(v)
	if err != nil {
		return err
	}
	indent := strings.Repeat("  ", len(path))
	for _, f := range fields {
		if !isTable(f.value) && !isTables(f.value) {
			w.b.WriteString(indent + tomlKey(f.key) + " = ")
			if err := w.inline(f.value); err != nil {
				return fmt.Errorf("%s: %w", f.key, err)
			}
			w.b.WriteByte('\n')
		}
	}
	for _, f := range fields {
		below := append(slices.Clip(path), f.key)
		switch {
		case isTable(f.value):
			if len(below) == 1 {
				w.blankLine()
			}
			w.b.WriteString(indent + "[" + tomlPath(below) + "]\n")
			err = w.table(below, f.value)
		case isTables(f.value):
			for i := 0; i < f.value.Len() && err == nil; i++ {
				w.blankLine()
				w.b.WriteString(indent + "[[" + tomlPath(below) + "]]\n")
				err = w.table(below, tomlValue(f.value.Index(i)))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blankLine stands before a table, except at the top of the document.
func (w *tomlWriter) blankLine() {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
}

// inline writes a value on one line.
func (w *tomlWriter) inline(v reflect.Value) error {
	if !v.IsValid() {
		return errors.New("there is no null in TOML")
	}
	switch x := v.Interface().(type) {
	case time.Time:
		w.b.WriteString(x.Format(time.RFC3339Nano))
		return nil
	case big.Int:
		w.b.WriteString(x.String())
		return nil
	case whole:
		w.b.WriteString(x.String())
		return nil
	}
	switch {
	case v.Kind() == reflect.String:
		w.b.WriteString(tomlString(v.String()))
	case v.Kind() == reflect.Bool:
		w.b.WriteString(strconv.FormatBool(v.Bool()))
	case v.CanInt():
		w.b.WriteString(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		w.b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case v.CanFloat():
		w.b.WriteString(tomlFloat(v.Float()))
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		return w.inlineList(v)
	case isTable(v):
		return w.inlineTable(v)
	default:
		return fmt.Errorf("a %s cannot be written", v.Type())
	}
	return nil
}

func (w *tomlWriter) inlineList(v reflect.Value) error {
	w.b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			w.b.WriteString(", ")
		}
		if err := w.inline(tomlValue(v.Index(i))); err != nil {
			return err
		}
	}
	w.b.WriteByte(']')
	return nil
}

func (w *tomlWriter) inlineTable(v reflect.Value) error {
	fields, err := tomlFields(v)
	if err != nil {
		return err
	}
	w.b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.b.WriteString(tomlKey(f.key) + " = ")
		if err := w.inline(f.value); err != nil {
			return err
		}
	}
	w.b.WriteByte('}')
	return nil
}

// tomlValue is what an interface holds or a pointer points to; invalid is nil.
func tomlValue(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.IsValid() && v.CanInterface() {
		if check, ok := v.Interface().(HealthCheck); ok {
			return reflect.ValueOf(check.encoded())
		}
	}
	return v
}

func isTable(v reflect.Value) bool {
	if !v.IsValid() {
		return false
	}
	switch v.Interface().(type) {
	case time.Time, big.Int:
		return false
	}
	return v.Kind() == reflect.Map || v.Kind() == reflect.Struct
}

// isTables reports whether v is a list of tables and of nothing else.
func isTables(v reflect.Value) bool {
	if v.Kind() != reflect.Slice || v.Len() == 0 {
		return false
	}
	for i := range v.Len() {
		if !isTable(tomlValue(v.Index(i))) {
			return false
		}
	}
	return true
}

// tomlFields are what a map or a struct holds, without nil: there is no null in TOML.
func tomlFields(v reflect.Value) ([]tomlField, error) {
	var all []tomlField
	add := func(key string, value reflect.Value) {
		if value = tomlValue(value); value.IsValid() && (value.Kind() != reflect.Map && value.Kind() != reflect.Slice || !value.IsNil()) {
			all = append(all, tomlField{key, value})
		}
	}
	if v.Kind() == reflect.Struct {
		for _, field := range reflect.VisibleFields(v.Type()) {
			if field.IsExported() && !field.Anonymous && field.Tag.Get("toml") != "-" {
				value, err := v.FieldByIndexErr(field.Index)
				if err != nil {
					return nil, err
				}
				add(field.Name, value)
			}
		}
		return all, nil
	}
	for _, key := range v.MapKeys() {
		name := tomlValue(key)
		if name.Kind() != reflect.String {
			return nil, fmt.Errorf("the key %v is no text", key)
		}
		add(name.String(), v.MapIndex(key))
	}
	slices.SortFunc(all, func(a, b tomlField) int { return cmp.Compare(a.key, b.key) })
	return all, nil
}

func tomlPath(keys []string) string {
	quoted := make([]string, len(keys))
	for i, key := range keys {
		quoted[i] = tomlKey(key)
	}
	return strings.Join(quoted, ".")
}

func tomlKey(key string) string {
	bare := key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-'
	})
	if bare {
		return key
	}
	return tomlString(key)
}

func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) { // bytes: what is no UTF-8 stays as it is
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\b':
			b.WriteString(`\b`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\f':
			b.WriteString(`\f`)
		case c == '\r':
			b.WriteString(`\r`)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func tomlFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(f, 'f', -1, 64)), "+")
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
