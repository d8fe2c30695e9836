package conf

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// field is what a struct field's tag says.
type field struct {
	names   []string // the key, then its other spellings
	typ     reflect.Type
	index   []int
	options []string // what stands in the tag behind the names
	unused  bool
	ignored bool
	silent  bool
}

func (f field) name() string { return f.names[0] }

// fieldsOf reads the tags of a struct type. Fields without a tag are not settings.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("conf")
		if !ok || tag == "-" {
			continue
		}
		parts := strings.Split(tag, ",")
		options := parts[1:]
		if slices.Contains(options, "squash") {
			for _, inner := range fieldsOf(sf.Type) {
				inner.index = append([]int{i}, inner.index...)
				out = append(out, inner)
			}
			continue
		}
		f := field{
			names: strings.Split(parts[0], "|"), typ: sf.Type, index: []int{i}, options: options,
			unused:  slices.Contains(options, "unused"),
			ignored: slices.Contains(options, "ignored"),
			silent:  slices.Contains(options, "silent"),
		}
		if f.ignored || f.silent { // several keys may share one such field
			for _, name := range f.names {
				one := f
				one.names = []string{name}
				out = append(out, one)
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

// Spellings maps each spelling of a key of the struct type t, without those of structs
// in it, to the Go field that holds its value.
func Spellings(t reflect.Type) map[string]string {
	out := map[string]string{}
	for _, f := range fieldsOf(t) {
		for _, name := range f.names {
			out[name] = t.FieldByIndex(f.index).Name
		}
	}
	return out
}

// fileFields are the fields that a file may set.
func fileFields(t reflect.Type) []field {
	return slices.DeleteFunc(fieldsOf(t), func(f field) bool { return slices.Contains(f.options, "flag") })
}

// findField looks a key up: as it is written first, then without regard to case.
func findField(fields []field, key string) (field, bool) {
	for _, equal := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		for _, f := range fields {
			for _, name := range f.names {
				if equal(name, key) {
					return f, true
				}
			}
		}
	}
	return field{}, false
}

// isLeaf reports whether a type is filled from one scalar.
func isLeaf(t reflect.Type) bool {
	if isDuration(t) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Interface, reflect.Pointer:
		return false
	}
	return true
}

// isDuration reports whether a type is a duration.
func isDuration(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Duration]() || t == reflect.TypeFor[api.Duration]()
}

// isObject reports whether a type is filled from an object.
func isObject(t reflect.Type) bool {
	return !isLeaf(t) && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map)
}

// Field is the field of the struct v that has a dotted key, as its tag spells it; not
// valid if none has.
func Field(v reflect.Value, key string) reflect.Value {
	first, rest, nested := strings.Cut(key, ".")
	for _, f := range fieldsOf(v.Type()) {
		switch {
		case f.name() != first:
		case nested:
			return Field(v.FieldByIndex(f.index), rest)
		default:
			return v.FieldByIndex(f.index)
		}
	}
	return reflect.Value{}
}

// Path is one setting of a struct: its dotted key and the value of the field.
type Path struct {
	Key     string
	Value   reflect.Value
	Options []string // what stands in the tag after the name
}

// Walk lists the settings of the struct that v points to, nested ones by their
// dotted keys, in the order of the fields.
func Walk(v any) []Path {
	return walk("", nil, reflect.Indirect(reflect.ValueOf(v)))
}

func walk(prefix string, outer []string, v reflect.Value) []Path {
	var out []Path
	for _, f := range fieldsOf(v.Type()) {
		if f.ignored || f.silent {
			continue
		}
		value, key := v.FieldByIndex(f.index), prefix+f.name()
		options := append(slices.Clone(outer), f.options...)
		if f.typ.Kind() == reflect.Struct && !isLeaf(f.typ) {
			out = append(out, walk(key+".", options, value)...)
			continue
		}
		out = append(out, Path{key, value, options})
	}
	return out
}
