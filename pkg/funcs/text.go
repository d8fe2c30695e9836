package funcs

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"
)

// indent puts n spaces before each line that is not empty.
func indent(n any, s string) (string, error) {
	spaces, err := number(n)
	if err != nil {
		return "", fmt.Errorf("indent: %w", err)
	}
	if spaces < 0 || spaces > 1000 {
		return "", fmt.Errorf("indent: %d is not a positive number up to 1000", spaces)
	}
	pad := strings.Repeat(" ", int(spaces))
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = pad + line
		}
	}
	return strings.Join(lines, "\n"), nil
}

// join takes a list of anything: strings, numbers from JSON, values of scratch.
func join(sep string, list any) (string, error) {
	l := reflect.ValueOf(list)
	if !l.IsValid() {
		return "", nil
	}
	if l.Kind() != reflect.Slice && l.Kind() != reflect.Array {
		return "", fmt.Errorf("join: wanted a list, not %v (%T)", list, list)
	}
	words := make([]string, l.Len())
	for i := range words {
		words[i] = fmt.Sprint(l.Index(i).Interface())
	}
	return strings.Join(words, sep), nil
}

func split(sep, s string) []string {
	s = strings.TrimSpace(s)
	if s == "" {
		return []string{}
	}
	return strings.Split(s, sep)
}

func regexMatch(expr, s string) (bool, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return false, err
	}
	return re.MatchString(s), nil
}

func regexReplaceAll(expr, to, s string) (string, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", err
	}
	return re.ReplaceAllString(s, to), nil
}

// toTitle makes the first letter of each word a capital. A word is what Unicode's rules
// for word boundaries (UAX 29) take for one: it holds digits and _, and between two letters
// an apostrophe, a point or a colon. A digit before the first letter does not count as one.
func toTitle(s string) string {
	runes := []rune(s)
	var b strings.Builder
	done := false // the word has its capital
	for i, r := range runes {
		switch {
		case unicode.IsLetter(r) && !done:
			b.WriteString(titleLetter(r))
			done = true
			continue
		case unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r), r == '_':
		case strings.ContainsRune(".:'’·", r) && i > 0 && unicode.IsLetter(runes[i-1]) && i+1 < len(runes) && unicode.IsLetter(runes[i+1]):
		default:
			done = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// titleLetter is a letter's form at the start of a word.
func titleLetter(r rune) string {
	if r == 'ß' {
		return "Ss"
	}
	return string(unicode.ToTitle(r))
}

// splitToMap splits s at sep into pairs, and these at the first kvsep. Blanks around s
// go, those within stay, as do blanks around keys and values; a part without kvsep is
// no pair.
func splitToMap(sep, kvsep, s string) map[string]string {
	m := map[string]string{}
	for _, pair := range split(sep, s) {
		if key, value, found := strings.Cut(pair, kvsep); found {
			m[key] = value
		}
	}
	return m
}
