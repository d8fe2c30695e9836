package tmpl

import (
	"errors"
	"fmt"
	"strings"
	"time"
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

// ParseWait reads "min" or "min:max".
func ParseWait(s string) (Wait, error) {
	first, second, both := strings.Cut(s, ":")
	var w Wait
	var err error
	if w.Min, err = time.ParseDuration(first); err != nil {
		return Wait{}, err
	}
	if both {
		if w.Max, err = time.ParseDuration(second); err != nil {
			return Wait{}, err
		}
	}
	switch {
	case w.Min < 0 || w.Max < 0:
		return Wait{}, errors.New("a duration below zero")
	case both && w.Max < w.Min:
		return Wait{}, fmt.Errorf("the longest wait %s is below the shortest %s", w.Max, w.Min)
	}
	return w, nil
}
