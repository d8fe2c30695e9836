package env

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Output is a format in which variables are printed.
type Output string

// The formats.
const (
	JSON    Output = "json"    // an object
	Shell   Output = "shell"   // export NAME='value', for any POSIX shell
	Dotenv  Output = "dotenv"  // NAME='value'
	Systemd Output = "systemd" // for EnvironmentFile=
	Null    Output = "null"    // NAME=value, each ended by a zero byte
)

// ParseOutput reads the name of a format.
func ParseOutput(s string) (Output, error) {
	for _, o := range []Output{JSON, Shell, Dotenv, Systemd, Null} {
		if s == string(o) {
			return o, nil
		}
	}
	return "", fmt.Errorf("want json, shell, dotenv, systemd or null")
}

// Print writes variables in a format from which exactly their values can be read. A
// variable that the format cannot express is an error.
func Print(vars []Var, o Output) ([]byte, error) {
	if o == JSON {
		return printJSON(vars)
	}
	var b strings.Builder
	for _, v := range vars {
		if o != Null && !Identifier(v.Name) {
			return nil, unprintable(v, o, "such a name")
		}
		switch o {
		case Null:
			b.WriteString(v.String() + "\x00")
		case Shell:
			b.WriteString("export " + v.Name + "=" + singleQuoted(v.Value) + "\n")
		case Dotenv:
			if strings.ContainsRune(v.Value, '\r') && strings.ContainsRune(v.Value, '\'') {
				return nil, unprintable(v, o, "a carriage return beside a quote")
			}
			b.WriteString(v.Name + "=" + dotenv(v.Value) + "\n")
		case Systemd:
			if !utf8.ValidString(v.Value) || strings.ContainsFunc(v.Value, func(r rune) bool {
				return unicode.IsControl(r) && r != '\n' && r != '\t'
			}) {
				return nil, unprintable(v, o, "control characters and bytes that are no UTF-8")
			}
			b.WriteString(v.Name + "=" + doubleQuoted(v.Value) + "\n")
		}
	}
	return []byte(b.String()), nil
}

func unprintable(v Var, o Output, what string) error {
	return fmt.Errorf("print %q (of %s): the form %q cannot hold %s", v.Name, Printable(v.From), o, what)
}

func printJSON(vars []Var) ([]byte, error) {
	m := make(map[string]string, len(vars))
	for _, v := range vars {
		if !utf8.ValidString(v.Value) || !utf8.ValidString(v.Name) {
			return nil, unprintable(v, JSON, "bytes that are no UTF-8")
		}
		m[v.Name] = v.Value
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("print as JSON: %w", err)
	}
	return []byte(b.String()), nil
}

// singleQuoted quotes for a shell, which changes no byte between single quotes.
func singleQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// doubleQuoted quotes for both a shell and systemd; line ends stay.
func doubleQuoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// dotenv quotes so that the many readers of .env files agree: single quotes keep every
// byte; only a value with a single quote needs double quotes and escapes.
func dotenv(s string) string {
	if !strings.ContainsRune(s, '\'') {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "\n", `\n`).Replace(s) + `"`
}

// Explain is a table of names and the keys they are from; values are not in it.
func Explain(vars []Var) string {
	width := 0
	for _, v := range vars {
		width = max(width, utf8.RuneCountInString(Printable(v.Name)))
	}
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "%-*s  %s  (%s)", width, Printable(v.Name), Printable(v.From), Printable(v.Source))
		if len(v.Hides) > 0 {
			hides := make([]string, 0, len(v.Hides))
			for _, key := range slices.Backward(v.Hides) {
				hides = append(hides, Printable(key))
			}
			fmt.Fprintf(&b, ", instead of %s", strings.Join(hides, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Printable is a name or a key to be printed: quoted if it has control characters or line
// ends, so that a key cannot look like another line of a table.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}
