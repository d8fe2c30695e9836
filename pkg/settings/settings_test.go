package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/watch"
)

// sample is a tool's configuration.
type sample struct {
	Consul Consul        `conf:"consul"`
	Exec   Exec          `conf:"exec"`
	Wait   any           `conf:"wait"`
	Names  []string      `conf:"names"`
	Delay  time.Duration `conf:"delay"`
	_      any           `conf:"vault,ignored"`
}

func (s *sample) Validate() error {
	errs := []error{s.Exec.Validate("exec")}
	if s.Delay < 0 {
		errs = append(errs, errors.New("delay is below zero"))
	}
	return errors.Join(errs...)
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Later sources override earlier ones: the files of a directory in lexical order, without
// hidden ones, then the inline text. Lists are appended, a command is replaced.
func TestReadLaysSourcesOverEachOther(t *testing.T) {
	dir := folder(t, map[string]string{
		"10.hcl": `delay = "1s" names = ["a"] exec { command = ["x", "y"] splay = "1s" } vault {}`, "20.json": `{"delay": "2s", "names": ["b"]}`,
		"sub/30.hcl": `exec { command = ["z"] }`, ".hidden.hcl": "not { a file", "..data/x.hcl": "not { a file",
	})
	read, warnings, err := Read[sample](Sources{
		Paths: []string{dir}, Inline: `delay = "3s" consul = "c:1" names = ["c"]`, InlineName: "INLINE",
	}, func(map[string]any) []string { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := conf.Decode(read, &got); err != nil {
		t.Fatal(err)
	}
	if got.Delay != 3*time.Second || strings.Join(got.Names, "") != "abc" || got.Consul.Address != "c:1" ||
		got.Exec.Splay != time.Second || !reflect.DeepEqual(got.Exec.Words(), []string{"z"}) {
		t.Errorf("%+v", got)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "no effect") || !strings.Contains(warnings[0], "vault") {
		t.Errorf("warnings %q", warnings)
	}
}

// A mistake names its source.
func TestReadSaysWhereAMistakeIs(t *testing.T) {
	dir := folder(t, map[string]string{"bad.hcl": `delay = "-1s"`, "typo.hcl": `dely = "1s"`, "syntax.hcl": "{{"})
	for _, tt := range []struct {
		src  Sources
		want string
	}{
		{Sources{Paths: []string{filepath.Join(dir, "bad.hcl")}}, "bad.hcl: delay is below zero"},
		{Sources{Paths: []string{filepath.Join(dir, "typo.hcl")}}, "dely (did you mean delay?)"},
		{Sources{Paths: []string{filepath.Join(dir, "syntax.hcl")}}, "syntax.hcl"},
		{Sources{Paths: []string{filepath.Join(dir, "none.hcl")}}, "no such file"},
		{Sources{Inline: `exec { kill_signal = "X" }`, InlineName: "INLINE"}, `INLINE: exec.kill_signal: no signal is called "X"`},
	} {
		if _, _, err := Read[sample](tt.src, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.src, err, tt.want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		in   any
		want []string
		bad  bool
	}{
		{nil, nil, false}, {"  ", nil, false}, {"a b", []string{"a b"}, false}, {[]any{"a", "b c"}, []string{"a", "b c"}, false},
		{[]any{"a", 1}, nil, true}, {5, nil, true}, {map[string]any{}, nil, true},
	} {
		if got, err := Words(tt.in); !reflect.DeepEqual(got, tt.want) || (err != nil) != tt.bad {
			t.Errorf("%v: %q, %v", tt.in, got, err)
		}
	}
	off := false
	if w := (&Exec{Command: "x", Enabled: &off}).Words(); w != nil {
		t.Errorf("switched off: %q", w)
	}
}

func TestParseWait(t *testing.T) {
	for _, tt := range []struct {
		in   any
		want *watch.Wait
	}{
		{nil, nil},
		{"1s:3s", &watch.Wait{Min: time.Second, Max: 3 * time.Second}},
		{map[string]any{"min": "1s", "max": "2s"}, &watch.Wait{Min: time.Second, Max: 2 * time.Second}},
		{map[string]any{"min": "1s", "enabled": false}, &watch.Wait{}},
	} {
		if got, err := ParseWait(tt.in); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %+v, %v", tt.in, got, err)
		}
	}
	for _, in := range []any{"x", "-1s", "3s:1s", map[string]any{"min": "3s", "max": "1s"}, map[string]any{"mni": "1s"}} {
		if got, err := ParseWait(in); err == nil {
			t.Errorf("%v is taken for %+v", in, got)
		}
	}
}
