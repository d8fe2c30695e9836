package tmpl

import (
	"errors"
	"strings"
)

// ParseTemplate reads "source:destination[:command]". A colon in one of the two
// paths is written "\:"; the command takes all the rest as it is. Without a
// destination the template can only be printed (Config.Dry).
func ParseTemplate(spec string) (Template, error) {
	source, rest, more := cutColon(spec)
	if strings.TrimSpace(source) == "" {
		return Template{}, errors.New(`no template in it: want "source:destination" or "source:destination:command"`)
	}
	t := Template{Source: source}
	if !more {
		return t, nil
	}
	t.Destination, t.Command, _ = cutColon(rest)
	if t.Destination == "" && t.Command != "" {
		return Template{}, errors.New(`no destination in it: want "source:destination:command"`)
	}
	t.Command = strings.TrimSpace(t.Command)
	return t, nil
}

// cutColon splits s at the first colon that has no backslash before it.
func cutColon(s string) (before, after string, found bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			i++
			b.WriteByte(':')
		case s[i] == ':':
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), "", false
}
