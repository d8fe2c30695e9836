package funcs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/query"
)

func TestSyntaxErrorsNameFileAndLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\n{{ servcie \"web\" }}":  `conf/web.ctmpl:2: function "servcie" not defined`,
		"a\nb\n{{ if true }}":       "conf/web.ctmpl:3: unexpected EOF",
		"{{ range }}{{ end }}":      "conf/web.ctmpl:1: missing value for range",
		"a\n\n{{ key \"a }}":        "conf/web.ctmpl:3: unterminated quoted string",
		"{{ $x }}":                  `conf/web.ctmpl:1: undefined variable "$x"`,
		"{{ end }}":                 "conf/web.ctmpl:1: unexpected {{end}}",
		"a\n{{ define \"x\" }}{{ }": "conf/web.ctmpl:2: unexpected",
	} {
		_, err := Parse("conf/web.ctmpl", text, Options{})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	_, err := eval(t, "a\n  {{ index (service \"none\") 3 }}", Options{})
	if err == nil || !strings.HasPrefix(err.Error(), `expr:2:5: executing "expr" at <index (service "none") 3>:`) {
		t.Errorf("execution: %v", err)
	}
}

func TestDelimiters(t *testing.T) {
	got, err := eval(t, `<< key "app/port" >> {{ key }}`, Options{LeftDelim: "<<", RightDelim: ">>"})
	if got != "8080 {{ key }}" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestErrorOnMissingKey(t *testing.T) {
	const text = `{{with tree "app" | explode}}{{.none}}{{end}}`
	if got, err := eval(t, text, Options{}); got != "<no value>" || err != nil {
		t.Errorf("off: %q %v", got, err)
	}
	if _, err := eval(t, text, Options{ErrorOnMissingKey: true}); err == nil || !strings.Contains(err.Error(), `map has no entry for key "none"`) {
		t.Errorf("on: %v", err)
	}
}

func TestDenylist(t *testing.T) {
	for _, c := range []struct {
		pattern, text, want string
	}{
		{"plugin", `{{plugin "true"}}`, ""},
		{"key", `{{key "app/port"}}`, ""},
		{"key", `{{keyOrDefault "app/port" ""}}`, "8080"},
		{"sprig_*", `{{sprig_upper "a"}}`, ""},
		{"sprig_*", `{{upper "a"}}`, "A"},
		{"*", `{{printf "ok"}}`, "ok"}, // Go's own are no functions of ours
		{"nothing", `{{plugin ""}}ok`, "ok"},
	} {
		got, err := eval(t, c.text, Options{Denylist: []string{c.pattern}})
		if c.want != "" && (got != c.want || err != nil) {
			t.Errorf("%s %s: %q %v", c.pattern, c.text, got, err)
		}
		if c.want == "" && (err == nil || !strings.Contains(err.Error(), "function is disabled")) {
			t.Errorf("%s %s: %q %v", c.pattern, c.text, got, err)
		}
	}
	if _, err := Parse("x", "", Options{Denylist: []string{"[a"}}); err == nil || !strings.Contains(err.Error(), `bad pattern "[a"`) {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("MUSTER_T_PROCESS", "process")
	t.Setenv("MUSTER_T_BOTH", "process")
	o := Options{Env: []string{"MUSTER_T_BOTH=first", "MUSTER_T_BOTH=template", "MUSTER_T_EMPTY="}}
	got, err := eval(t, `{{env "MUSTER_T_PROCESS"}} {{env "MUSTER_T_BOTH"}} {{env "MUSTER_T_NONE"}} {{mustEnv "MUSTER_T_BOTH"}} `+
		`{{envOrDefault "MUSTER_T_NONE" "d"}} {{envOrDefault "MUSTER_T_EMPTY" "e"}} {{or (env "MUSTER_T_NONE") "x"}}`, o)
	if want := "process template  template d e x"; got != want || err != nil {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	if _, err := eval(t, `{{mustEnv "MUSTER_T_EMPTY"}}`, o); err == nil || !strings.Contains(err.Error(), "mustEnv: environment variable MUSTER_T_EMPTY") {
		t.Errorf("mustEnv: %v", err)
	}
}

func TestTimestamp(t *testing.T) {
	got, err := eval(t, `{{timestamp}} {{timestamp "2006-01-02T15:04"}} {{timestamp "unix"}}`, Options{})
	parts := strings.Fields(got)
	if err != nil || len(parts) != 3 {
		t.Fatalf("%q %v", got, err)
	}
	at, err := time.Parse(time.RFC3339, parts[0])
	if err != nil || time.Since(at) > time.Minute || !strings.HasSuffix(parts[0], "Z") || len(parts[1]) != 16 || len(parts[2]) != 10 {
		t.Errorf("%v %v", parts, err)
	}
	if _, err := eval(t, `{{timestamp "a" "b"}}`, Options{}); err == nil {
		t.Error("two layouts pass")
	}
}

func TestSockaddr(t *testing.T) {
	got, err := eval(t, `{{sockaddr "GetAllInterfaces | include \"name\" \"^lo$\" | include \"type\" \"IPv4\" | attr \"address\""}}`, Options{})
	if err != nil || got != "127.0.0.1" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := eval(t, `{{sockaddr "NoSuchThing"}}`, Options{}); err == nil || !strings.Contains(err.Error(), "sockaddr: ") {
		t.Errorf("error %v", err)
	}
}

func TestPlugin(t *testing.T) {
	script := filepath.Join(t.TempDir(), "plug")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho warned >&2\ncase $1 in fail) exit 3;; esac\necho \"  <$*>  \"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(script)+":"+os.Getenv("PATH"))
	checkExprs(t, []exprCase{
		{`{{plugin "plug" "a" "b c"}}`, "<a b c>", ""}, // stdout only, trimmed
		{`{{ls "app" | explode | toJSON | plugin "plug" 1}}`, `<1 {"empty":"","port":"8080"}>`, ""},
		{`{{plugin "plug" "fail"}}`, "", "plugin plug: exit code 3: warned"},
		{`{{plugin "no-such-plugin"}}`, "", "plugin no-such-plugin: "},
		{`{{plugin ""}}.`, ".", ""},
	})
	if _, err := eval(t, `{{plugin "sh" "-c" "head -c 20000000 /dev/zero"}}`, Options{}); err == nil || !strings.Contains(err.Error(), "more than the limit") {
		t.Errorf("too much output: %v", err)
	}
	// Stopped with its context, although somebody it left behind holds its pipes.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	tmpl, err := Parse("x", `{{plugin "sh" "-c" "sleep 60 & sleep 60"}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := tmpl.Execute(ctx, answers{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

// TestNoEffectsWithoutData: while an answer is missing no plugin acts on the
// emptiness, and nothing written to files is final.
func TestNoEffectsWithoutData(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	tmpl, err := Parse("x", `{{len (service "web") | plugin "sh" "-c" "echo $0 $1 >> `+ran+`" "n"}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, _, passes, err := settle(t, tmpl, loadFixture(t, "testdata/world.json"))
	if err != nil || !out.Complete || passes != 2 {
		t.Fatalf("complete %v after %d passes, %v", out.Complete, passes, err)
	}
	if got, err := os.ReadFile(ran); string(got) != "n 2\n" {
		t.Errorf("the plugin was run with %q, %v", got, err)
	}
}

func TestWriteToFile(t *testing.T) {
	const text = `{{key "app/port" | writeToFile "/etc/a" "root" "0" "0640"}}{{writeToFile "/etc/b" "" "" "" "append,newline" "x"}}text`
	tmpl, err := Parse("x", text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, _, _, err := settle(t, tmpl, loadFixture(t, "testdata/world.json"))
	if err != nil || string(out.Text) != "text" || len(out.Files) != 2 {
		t.Fatalf("%+v %v", out, err)
	}
	if f := out.Files[0]; f.Path != "/etc/a" || f.User != "root" || f.Group != "0" || f.Mode != 0o640 || f.Append || string(f.Content) != "8080" {
		t.Errorf("%+v", f)
	}
	if f := out.Files[1]; f.Path != "/etc/b" || f.Mode != 0 || !f.Append || string(f.Content) != "x\n" {
		t.Errorf("%+v", f)
	}
	checkExprs(t, []exprCase{
		{`{{writeToFile "/a" "" "" "rw" "x"}}`, "", `permissions "rw" are not an octal number`},
		{`{{writeToFile "/a" "" "" "0644" "append,twice" "x"}}`, "", `unknown flag "twice"`},
		{`{{writeToFile "/a" "" "" "0644"}}`, "", "wrong number of arguments"},
		{`{{writeToFile "" "" "" "0644" "x"}}`, "", "no path given"},
	})
}

func TestSandbox(t *testing.T) {
	dir := t.TempDir()
	inside, outside := filepath.Join(dir, "in", "f"), filepath.Join(dir, "out")
	link := filepath.Join(dir, "in", "link")
	for _, err := range []error{os.Mkdir(filepath.Dir(inside), 0o755), os.WriteFile(inside, nil, 0o600),
		os.WriteFile(outside, nil, 0o600), os.Symlink(outside, link), os.WriteFile(filepath.Join(dir, "in", "..f"), nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		inside:                         "",
		filepath.Dir(inside) + "/..f":  "",
		outside:                        "'" + outside + "' is outside of sandbox",
		link:                           "'" + link + "' is outside of sandbox",
		dir + "/in/../out":             "is outside of sandbox",
		filepath.Join(dir, "in", "no"): "no such file",
	} {
		tmpl, err := Parse("x", `{{file "`+path+`"}}`, Options{SandboxPath: filepath.Dir(inside)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := tmpl.Execute(t.Context(), answers{"content"})
		if want == "" && (err != nil || string(out.Text) != "content") {
			t.Errorf("%s: %q %v", path, out.Text, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// What go-spew prints, but without addresses and with maps in order.
func TestSpew(t *testing.T) {
	var stdout bytes.Buffer
	got, err := eval(t, `{{with ls "app/db"}}{{spew_dump .}}{{spew_printf "%v|%+v\n" (index . 0).Key 7}}{{spew_sdump (dict "b" 1 "a" nil)}}{{end}}`, Options{Stdout: &stdout})
	if err != nil {
		t.Fatal(err)
	}
	if want := "(map[string]interface {}) (len=2) {\n (string) (len=1) \"a\": (interface {}) <nil>,\n (string) (len=1) \"b\": (int) 1\n}\n"; got != want {
		t.Errorf("text %q", got)
	}
	for _, want := range []string{"([]*funcs.KeyPair) (len=2 cap=2) {\n (*funcs.KeyPair)({\n  Path: (string) (len=11) \"app/db/host\",\n", "  Session: (string) \"\"\n }),\n", "host|7\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("stdout %q lacks %q", stdout.String(), want)
		}
	}
	checkExprs(t, []exprCase{
		{`{{spew_sprintf "%v|%+v|%#v|%#+v" 5 "x" 5 "x"}}`, "5|x|(int)5|(string)x", ""},
		{`{{spew_sprintf "%v|%#v" (list 1 "a" nil) (list 1 "a" nil)}}`, "[1 a <nil>]|([]interface {})[(int)1 (string)a (interface {})<nil>]", ""},
		{`{{spew_sprintf "%v|%#v" (dict "b" (list "x") "a" 1) (dict "a" 1)}}`, "map[a:1 b:[x]]|(map[string]interface {})map[a:(int)1]", ""},
		{`{{spew_sprintf "%v %v %s %5d" nil true "s" 7}} {{spew_sprintf "%d" "x"}} {{spew_sprintf "%v"}}`, "<nil> true s     7 %!d(string=x) %!v(MISSING)", ""},
		{`{{with index (ls "app/db") 0}}{{spew_sprintf "%v %+v" . .}}{{end}}`, "<*>{app/db/host host 10.0.0.9 0 7 0 0 } " +
			"<*>{Path:app/db/host Key:host Value:10.0.0.9 CreateIndex:0 ModifyIndex:7 LockIndex:0 Flags:0 Session:}", ""},
		{`{{with index (ls "app/db") 0}}{{spew_sprintf "%#+v" .}}{{end}}`, "(*funcs.KeyPair){Path:(string)app/db/host Key:(string)host Value:(string)10.0.0.9 " +
			"CreateIndex:(uint64)0 ModifyIndex:(uint64)7 LockIndex:(uint64)0 Flags:(uint64)0 Session:(string)}", ""},
		{`{{spew_sdump 5 "x" nil true 1.5}}{{spew_sdump (list)}}`, "(int) 5\n(string) (len=1) \"x\"\n(interface {}) <nil>\n(bool) true\n(float64) 1.5\n([]interface {}) {\n}\n", ""},
	})
}

func TestOutputIsBounded(t *testing.T) {
	_, err := eval(t, `{{$s := repeat 1000000 "x"}}{{range loop 100}}{{$s}}{{end}}`, Options{})
	if err == nil || !strings.Contains(err.Error(), "template writes more than 64 MiB") {
		t.Errorf("error %v", err)
	}
}

// TestNestedLookups: what a pass asks for is known to the next, and each depth
// of nesting costs one pass more.
func TestNestedLookups(t *testing.T) {
	tmpl, err := Parse("x", `{{range services}}{{range service .Name}}{{with node .Node}}{{.Node.Node}} {{end}}{{end}}{{end}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, src, passes, err := settle(t, tmpl, loadFixture(t, "testdata/world.json"))
	if err != nil || !out.Complete || string(out.Text) != "n3 n1 n2 " || passes != 4 {
		t.Errorf("%q complete %v, %d passes, %v", out.Text, out.Complete, passes, err)
	}
	if want := (query.Query{Kind: query.KindService, Name: "cache", Passing: true}); !src.asked[want] {
		t.Errorf("%s was not asked for", want)
	}
}

func TestConcurrentExecution(t *testing.T) {
	tmpl, err := Parse("x", `{{scratch.MapSet "m" "a" (key "app/port")}}{{define "d"}}{{scratch.MapValues "m" | join ","}}{{end}}{{executeTemplate "d"}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	results := make([]string, 8)
	for i := range results {
		wg.Go(func() {
			out, _, _, err := settle(t, tmpl, loadFixture(t, "testdata/world.json"))
			if err != nil {
				t.Error(err)
			}
			results[i] = string(out.Text)
		})
	}
	wg.Wait()
	if results = slices.Compact(results); results[0] != "8080" || len(results) != 1 {
		t.Errorf("%q", results)
	}
}
