package funcs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// maxDump is how deep a dump follows pointers and containers.
const maxDump = 12

func (p *pass) spewDump(values ...any) (string, error) {
	_, err := fmt.Fprint(p.opts.Stdout, spewSdump(values...))
	return "", err
}

func (p *pass) spewPrintf(format string, values ...any) (string, error) {
	_, err := fmt.Fprint(p.opts.Stdout, spewSprintf(format, values...))
	return "", err
}

// spewSdump shows values with their types, one line for each part, as go-spew does; but
// without addresses, and maps in order: the same data give the same text.
func spewSdump(values ...any) string {
	var b strings.Builder
	for _, v := range values {
		dump(&b, reflect.ValueOf(v), 0)
		b.WriteByte('\n')
	}
	return b.String()
}

// spewSprintf is printf whose %v shows what pointers point to, with types by %#v and the names
// of fields by %+v.
func spewSprintf(format string, values ...any) string {
	shown := make([]any, len(values))
	for i, v := range values {
		shown[i] = deep{v}
	}
	return fmt.Sprintf(format, shown...)
}

// deep prints as its value does, except for %v.
type deep struct{ v any }

// Format implements fmt.Formatter.
func (d deep) Format(f fmt.State, verb rune) {
	if verb != 'v' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), d.v)
		return
	}
	var b strings.Builder
	s := spewLine{b: &b, types: f.Flag('#'), names: f.Flag('#') || f.Flag('+')}
	s.show(reflect.ValueOf(d.v), s.types, 0)
	fmt.Fprint(f, b.String())
}

// spewLine writes a value on one line.
type spewLine struct {
	b            *strings.Builder
	types, names bool
}

func (s spewLine) show(v reflect.Value, typed bool, depth int) {
	stars := ""
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer && !v.IsNil() {
		if v.Kind() == reflect.Pointer {
			stars += "*"
		}
		typed = s.types
		v = v.Elem()
	}
	switch {
	case !v.IsValid():
		s.b.WriteString(map[bool]string{true: "(interface {})<nil>", false: "<nil>"}[typed])
		return
	case typed:
		s.b.WriteString("(" + stars + v.Type().String() + ")")
	case stars != "":
		s.b.WriteString("<" + stars + ">")
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
	default:
		fmt.Fprintf(s.b, "%v", v)
		return
	}
	if depth > maxDump {
		s.b.WriteString("<max depth reached>")
		return
	}
	begin, end := "[", "]"
	switch v.Kind() {
	case reflect.Struct:
		begin, end = "{", "}"
	case reflect.Map:
		begin = "map["
	}
	s.b.WriteString(begin)
	for i, item := range items(v) {
		if i > 0 {
			s.b.WriteByte(' ')
		}
		if item.name != "" && (s.names || v.Kind() == reflect.Map) {
			s.b.WriteString(item.name + ":")
		}
		s.show(item.value, s.types && v.Kind() == reflect.Struct, depth+1)
	}
	s.b.WriteString(end)
}

func dump(b *strings.Builder, v reflect.Value, depth int) {
	for v.Kind() == reflect.Interface && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() == reflect.Interface {
		b.WriteString("(interface {}) <nil>")
		return
	}
	fmt.Fprintf(b, "(%s)", v.Type())
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("(<nil>)")
			return
		}
		b.WriteByte('(')
		dumpParts(b, v.Elem(), depth)
		b.WriteByte(')')
		return
	case reflect.Map, reflect.Slice:
		if v.IsNil() {
			b.WriteString(" <nil>")
			return
		}
	}
	b.WriteByte(' ')
	dumpParts(b, v, depth)
}

// dumpParts is a dump without the type.
func dumpParts(b *strings.Builder, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		if v.Len() > 0 {
			fmt.Fprintf(b, "(len=%d) ", v.Len())
		}
		fmt.Fprintf(b, "%q", v.String())
		return
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
	case reflect.Pointer:
		dump(b, v, depth)
		return
	default:
		fmt.Fprintf(b, "%v", v)
		return
	}
	switch {
	case v.Kind() == reflect.Struct || v.Len() == 0:
	case v.Kind() == reflect.Map:
		fmt.Fprintf(b, "(len=%d) ", v.Len())
	default:
		fmt.Fprintf(b, "(len=%d cap=%d) ", v.Len(), v.Cap())
	}
	pad := strings.Repeat(" ", depth)
	if depth > maxDump {
		b.WriteString("{\n" + pad + " <max depth reached>\n" + pad + "}")
		return
	}
	b.WriteString("{\n")
	parts := items(v)
	for i, item := range parts {
		b.WriteString(pad + " ")
		switch v.Kind() {
		case reflect.Struct:
			b.WriteString(item.name + ": ")
		case reflect.Map:
			dump(b, item.key, depth+1)
			b.WriteString(": ")
		}
		dump(b, item.value, depth+1)
		if i < len(parts)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(pad + "}")
}

type dumpItem struct {
	name       string // "" in a list
	key, value reflect.Value
}

// items are a container's parts, those of a map in sorted order.
func items(v reflect.Value) []dumpItem {
	var out []dumpItem
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out = append(out, dumpItem{name: v.Type().Field(i).Name, value: v.Field(i)})
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			out = append(out, dumpItem{fmt.Sprint(key), key, v.MapIndex(key)})
		}
		slices.SortFunc(out, func(a, b dumpItem) int { return strings.Compare(a.name, b.name) })
	default:
		for i := range v.Len() {
			out = append(out, dumpItem{value: v.Index(i)})
		}
	}
	return out
}
