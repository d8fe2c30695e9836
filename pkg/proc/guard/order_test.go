package guard

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func FuzzReadOrder(f *testing.F) {
	whole := Order{Path: "/bin/x", Argv: []string{"x", ""}, Env: []string{"A=1\n"}, Deadline: Deadline{3, 4}, Leave: true}.String()
	head, body, _ := strings.Cut(strings.TrimPrefix(whole, doStart+" "), "\n")
	f.Add(head, []byte(body))
	f.Add("-1 1 0:0 true", []byte{})
	f.Add("4 9 0:0 false", []byte("a\x00b\x00"))
	f.Fuzz(func(t *testing.T, head string, body []byte) {
		if len(head) > 30 || strings.IndexByte(head, ' ') > 6 {
			return // the size it names is made
		}
		a, ok := readOrder(head, bytes.NewReader(body))
		if !ok {
			return
		}
		line, rest, _ := strings.Cut(strings.TrimPrefix(a.String(), doStart+" "), "\n")
		b, ok := readOrder(line, strings.NewReader(rest))
		if !ok || a.Path != b.Path || a.Dir != b.Dir || a.Deadline != b.Deadline || a.Leave != b.Leave || !slices.Equal(a.Argv, b.Argv) || !slices.Equal(a.Env, b.Env) {
			t.Errorf("%+v, %+v", a, b)
		}
	})
}
