package env

import (
	"fmt"
	"strings"
	"text/template"
)

// Format is the template of a name, as envconsul has it.
type Format struct{ tmpl *template.Template }

// maxName bounds a name, in bytes.
const maxName = 4096

// ParseFormat reads a template that may use key, service and
// replaceKey "from" "to", which replaces in the key, or in what is piped into it.
func ParseFormat(text string) (*Format, error) {
	t, err := template.New("format").Funcs(funcs("", "")).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("format %q: %s", text, strings.TrimPrefix(err.Error(), "template: format:"))
	}
	return &Format{t}, nil
}

func funcs(service, key string) template.FuncMap {
	return template.FuncMap{
		"key":     func() string { return key },
		"service": func() string { return service },
		"replaceKey": func(from, to string, piped ...string) (string, error) {
			switch len(piped) {
			case 0:
				return strings.ReplaceAll(key, from, to), nil
			case 1:
				return strings.ReplaceAll(piped[0], from, to), nil
			}
			return "", fmt.Errorf("replaceKey takes from, to, and a text")
		},
	}
}

// Execute formats a key.
func (f *Format) Execute(service, key string) (string, error) {
	t, err := f.tmpl.Clone()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Funcs(funcs(service, key)).Execute(&b, nil); err != nil {
		return "", fmt.Errorf("format: %w", err)
	}
	return b.String(), nil
}

// name is the variable's name for a key of the source; "" means no variable.
func (s Source) name(key string, rules Rules) (string, error) {
	key = strings.TrimPrefix(key, "/")
	if key == "" {
		return "", nil
	}
	if s.Prepend != "" {
		key = Sanitize(s.Prepend) + "_" + key
	}
	if s.Format != nil {
		var err error
		if key, err = s.Format.Execute("", key); err != nil {
			return "", err
		}
	}
	if !rules.Raw {
		key = Sanitize(key)
	}
	if rules.Upcase {
		key = strings.ToUpper(key)
	}
	if len(key) > maxName {
		return "", fmt.Errorf("the name would have %d bytes, more than the limit of %d", len(key), maxName)
	}
	return key, nil
}

// Sanitize replaces every character outside [A-Za-z0-9_] by _.
func Sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if isWord(r) {
			return r
		}
		return '_'
	}, s)
}

func isWord(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// Identifier reports whether a shell can hold a variable of that name.
func Identifier(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && strings.IndexFunc(name, func(r rune) bool { return !isWord(r) }) < 0
}
