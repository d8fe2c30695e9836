package option

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

type values struct {
	Name  string `conf:"name"`
	Count int    `conf:"count"`
	Block struct {
		Names []string       `conf:"names"`
		Wait  *time.Duration `conf:"wait"`
		On    *bool          `conf:"on"`
	} `conf:"block"`
	Any any `conf:"any"`
}

// resolve makes a table, reads a command line, and resolves it and files.
func resolve(t *testing.T, filesFirst bool, files map[string]any, args ...string) (*values, Origins, *Table[values]) {
	t.Helper()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	table := New(fs, values{Name: "start", Count: 1})
	table.FilesFirst = filesFirst
	table.Add(
		Option{Flag: "name", Also: "called other-name", Env: "MUSTER_T_NAME CONSUL_T_NAME"},
		Option{Flag: "count", Check: func(s string) error {
			if s == "13" {
				return errors.New("unlucky")
			}
			return nil
		}},
		Option{Flag: "names", Key: "block.names"},
		Option{Flag: "wait", Key: "block.wait", Default: time.Minute},
		Option{Key: "block.on", Env: "T_ON", Default: false},
		Option{Flag: "any"},
		NoEffect("quiet", false))
	table.Add(Unused("", "loud")...)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	v, from, err := table.Resolve(files)
	if err != nil {
		t.Fatal(err)
	}
	return v, from, table
}

// A flag wins over the environment, that over files, files over the default; the
// environment and files change places for FilesFirst.
func TestPrecedence(t *testing.T) {
	file := map[string]any{"name": "file"}
	for _, c := range []struct {
		env, own   string
		file       map[string]any
		args       []string
		want, over string // over: with FilesFirst
	}{
		{want: "start", over: "start"},
		{file: file, want: "file", over: "file"},
		{env: "env", want: "env", over: "env"},
		{env: "env", own: "own", want: "own", over: "own"},
		{env: "env", file: file, want: "env", over: "file"},
		{env: "env", file: file, args: []string{"--name=flag"}, want: "flag", over: "flag"},
		{env: "env", file: file, args: []string{"--other-name=flag"}, want: "flag", over: "flag"},
		{file: file, args: []string{"--name=start"}, want: "start", over: "start"},
	} {
		t.Setenv("CONSUL_T_NAME", c.env)
		t.Setenv("MUSTER_T_NAME", c.own)
		if c.own == "" {
			_ = os.Unsetenv("MUSTER_T_NAME")
		}
		for filesFirst, want := range map[bool]string{false: c.want, true: c.over} {
			if v, _, _ := resolve(t, filesFirst, c.file, c.args...); v.Name != want || v.Count != 1 {
				t.Errorf("%+v, files first %v: %+v", c, filesFirst, v)
			}
		}
	}
	t.Setenv("MUSTER_T_NAME", "")
	if v, _, _ := resolve(t, false, file); v.Name != "file" {
		t.Errorf("an empty MUSTER_ variable does not hide CONSUL_'s: %+v", v)
	}
}

// Lists of the command line stand behind those of files; what only the files' map
// holds is kept, as it is spelled; the map itself is not touched.
func TestListsAndTheRest(t *testing.T) {
	files := map[string]any{"any": []any{map[string]any{"Upper": "x"}}, "block": map[string]any{"names": []any{"a"}}}
	v, _, _ := resolve(t, false, files, "--names=b,c", "--names=", "--wait=2s")
	if !slices.Equal(v.Block.Names, []string{"a", "b,c", ""}) || v.Block.Wait == nil || *v.Block.Wait != 2*time.Second {
		t.Errorf("%+v", v.Block)
	}
	if list, ok := v.Any.([]any); !ok || list[0].(map[string]any)["Upper"] != "x" {
		t.Errorf("%#v", v.Any)
	}
	if names := files["block"].(map[string]any)["names"].([]any); len(names) != 1 {
		t.Errorf("the files' map has changed: %v", files)
	}
	if v, _, _ := resolve(t, false, nil); v.Block.Wait != nil {
		t.Errorf("the default of the help became a value: %v", v.Block.Wait)
	}
}

// A boolean of the environment counts if it is not the default.
func TestTruthOfTheEnvironment(t *testing.T) {
	file := map[string]any{"block": map[string]any{"on": true}}
	for value, want := range map[string]bool{"": true, "false": true, "maybe": true, "true": true} {
		t.Setenv("T_ON", value)
		if v, _, _ := resolve(t, false, file); v.Block.On == nil || *v.Block.On != want {
			t.Errorf("%q over a file: %v", value, v.Block.On)
		}
	}
	t.Setenv("T_ON", "1")
	if v, _, _ := resolve(t, false, nil); v.Block.On == nil || !*v.Block.On {
		t.Errorf("alone: %v", v.Block.On)
	}
}

func TestOrigins(t *testing.T) {
	t.Setenv("CONSUL_T_NAME", "env")
	files := map[string]any{"name": "file", "count": 3}
	_, from, table := resolve(t, false, files, "--called=x", "--loud=1", "--quiet")
	if from.Flag("name") != "called" || !from.Has("name", File) || !from.Has("name", Environment) || from.Has("count", Flag) || !from.Overrides("name", "count") {
		t.Errorf("%+v", from)
	}
	if table.Given("count") || !table.Given("name") || !slices.Equal(table.GivenWithoutEffect(), []string{"-loud"}) {
		t.Errorf("useless: %v", table.GivenWithoutEffect())
	}
	for _, filesFirst := range []bool{false, true} {
		if _, from, _ := resolve(t, filesFirst, map[string]any{"count": 3}); from.Overrides("count", "name") != filesFirst || !from.Overrides("name", "any") {
			t.Errorf("files first %v: %+v", filesFirst, from)
		}
	}
}

func TestCheckNamesTheFlag(t *testing.T) {
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	table := New(fs, values{})
	table.Add(Option{Flag: "name", Also: "called", Check: func(string) error { return errors.New("no") }})
	if _, _, err := table.Resolve(map[string]any{"name": "x"}); err != nil {
		t.Errorf("a file's value is checked as a flag: %v", err)
	}
	if err := fs.Parse([]string{"--called=x"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Resolve(nil); err == nil || !strings.Contains(err.Error(), `"x" for flag -called: no`) {
		t.Errorf("%v", err)
	}
}

func TestOutput(t *testing.T) {
	for args, want := range map[string]string{
		"": "text", "--o=json": "json", "--json": "json", "--format=pretty": "text", "--format=json": "json", "--json=false": "text", "--o=jsonl": "",
	} {
		got := "text"
		fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
		Define(fs, Output(&got, "text", "json")...)
		err := fs.Parse(strings.Fields(args))
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%s: %q, %v", args, got, err)
		}
	}
}
