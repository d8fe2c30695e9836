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

// spewSdump shows values with their types, one line for each field.
func spewSdump(values ...any) string {
	var b strings.Builder
	for _, v := range values {
		dump(&b, reflect.ValueOf(v), 0)
		b.WriteByte('\n')
	}
	return b.String()
}

// spewSprintf is printf that shows what pointers point to.
func spewSprintf(format string, values ...any) string {
	shown := make([]any, len(values))
	for i, v := range values {
		shown[i] = deep{v}
	}
	return fmt.Sprintf(format, shown...)
}

// deep prints as its value does, except that %v (with any flag) follows pointers.
type deep struct{ v any }

func (d deep) Format(f fmt.State, verb rune) {
	if verb != 'v' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), d.v)
		return
	}
	var b strings.Builder
	dump(&b, reflect.ValueOf(d.v), 0)
	fmt.Fprint(f, strings.Join(strings.Fields(b.String()), " "))
}

func dump(b *strings.Builder, v reflect.Value, depth int) {
	if !v.IsValid() {
		b.WriteString("(nil)")
		return
	}
	pad := strings.Repeat("  ", depth+1)
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() || depth > maxDump {
			fmt.Fprintf(b, "(%s) %s", v.Type(), map[bool]string{true: "nil", false: "..."}[v.IsNil()])
			return
		}
		if v.Kind() == reflect.Pointer {
			b.WriteByte('*')
		}
		dump(b, v.Elem(), depth)
		return
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
	case reflect.String:
		fmt.Fprintf(b, "(%s) %q", v.Type(), v.String())
		return
	default:
		fmt.Fprintf(b, "(%s) %v", v.Type(), v)
		return
	}
	fmt.Fprintf(b, "(%s) ", v.Type())
	if depth > maxDump {
		b.WriteString("{...}")
		return
	}
	b.WriteString("{\n")
	for _, item := range items(v) {
		b.WriteString(pad + item.name)
		dump(b, item.value, depth+1)
		b.WriteByte('\n')
	}
	b.WriteString(strings.Repeat("  ", depth) + "}")
}

type dumpItem struct {
	name  string
	value reflect.Value
}

// items are a container's parts, those of a map in sorted order.
func items(v reflect.Value) []dumpItem {
	var out []dumpItem
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out = append(out, dumpItem{v.Type().Field(i).Name + ": ", v.Field(i)})
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			out = append(out, dumpItem{fmt.Sprintf("%v: ", key), v.MapIndex(key)})
		}
		slices.SortFunc(out, func(a, b dumpItem) int { return strings.Compare(a.name, b.name) })
	default:
		for i := range v.Len() {
			out = append(out, dumpItem{"", v.Index(i)})
		}
	}
	return out
}
