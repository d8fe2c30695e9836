package conf

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type ports struct {
	HTTP int `conf:"http"`
	DNS  int `conf:"dns"`
}

type check struct {
	Args     []string            `conf:"args|script_args"`
	Interval time.Duration       `conf:"interval"`
	Header   map[string][]string `conf:"header"`
}

type service struct {
	Name   string         `conf:"name"`
	Port   uint16         `conf:"port"`
	Tags   []string       `conf:"tags"`
	Checks []check        `conf:"checks"`
	Check  *check         `conf:"check"`
	Proxy  map[string]any `conf:"proxy,unused"`
}

type base struct {
	Level string `conf:"log_level,reload"`
}

type settings struct {
	base     `conf:",squash"`
	NodeName string            `conf:"node_name"`
	Server   bool              `conf:"server"`
	Ratio    float64           `conf:"ratio"`
	Ports    ports             `conf:"ports"`
	Meta     map[string]string `conf:"node_meta"`
	Join     []string          `conf:"retry_join"`
	Services []service         `conf:"services"`
	Timeout  time.Duration     `conf:"timeout"`
	_        any               `conf:"connect|peering,ignored"`
	_        any               `conf:"version,silent"`
	Runtime  string            // no setting
}

const (
	inJSON = `{"node_name": "A1", "server": true, "ratio": 0.5, "timeout": "1m", "retry_join": ["a", "b"],
 "ports": {"http": 8500, "dns": -1}, "node_meta": {"Rack-ID": "R1"},
 "services": [{"Name": "web", "port": 80, "tags": ["x"], "checks": [{"args": ["a", "b"], "interval": "5s",
   "header": {"X-Y": ["1", "2"]}}]}, {"name": "db"}]}`
	inHCL = `node_name = "A1" # a comment
server = true
ratio = 0.5
timeout = "1m"
retry_join = ["a", "b"]
ports { http = 8500 dns = -1 }
node_meta { "Rack-ID" = "R1" }
services { Name = "web" port = 80 tags = ["x"]
  checks { script_args = ["a", "b"] interval = "5s" header { X-Y = ["1", "2"] } }
}
services = { name = "db" }`
	inYAML = `node_name: A1
server: true
ratio: 0.5
timeout: 1m
retry_join: [a, b]
ports: {http: 8500, dns: -1}
node_meta: {Rack-ID: R1}
services:
  - Name: web
    port: 80
    tags: [x]
    checks: [{args: [a, b], interval: 5s, header: {X-Y: ["1", "2"]}}]
  - name: db
`
	inTOML = `node_name = "A1"
server = true
ratio = 0.5
timeout = "1m"
retry_join = ["a", "b"]
[ports]
http = 8500
dns = -1
[node_meta]
Rack-ID = "R1"
[[services]]
Name = "web"
port = 80
tags = ["x"]
checks = [{args = ["a", "b"], interval = "5s", header = {X-Y = ["1", "2"]}}]
[[services]]
name = "db"
`
)

func load(t *testing.T, text string, format Format) settings {
	t.Helper()
	m, err := Parse("file", []byte(text), format)
	if err != nil {
		t.Fatal(err)
	}
	fitted, err := Check("file", m, settings{})
	if err != nil {
		t.Fatal(err)
	}
	var out settings
	if err := Decode(fitted.Map, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFormatsMeanTheSame(t *testing.T) {
	want := settings{
		NodeName: "A1", Server: true, Ratio: 0.5, Timeout: time.Minute, Join: []string{"a", "b"},
		Ports: ports{HTTP: 8500, DNS: -1}, Meta: map[string]string{"Rack-ID": "R1"},
		Services: []service{
			{Name: "web", Port: 80, Tags: []string{"x"}, Checks: []check{{Args: []string{"a", "b"}, Interval: 5 * time.Second,
				Header: map[string][]string{"X-Y": {"1", "2"}}}}},
			{Name: "db"},
		},
	}
	for name, c := range map[string]struct {
		text   string
		format Format
	}{
		"json": {inJSON, JSON}, "hcl": {inHCL, HCL}, "yaml": {inYAML, YAML}, "toml": {inTOML, TOML},
		"json as hcl": {" \n" + inJSON, HCL}, "json with a mark": {"\xef\xbb\xbf" + inJSON, JSON},
	} {
		t.Run(name, func(t *testing.T) {
			if got := load(t, c.text, c.format); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestTolerance(t *testing.T) {
	for name, c := range map[string]struct {
		format Format
		text   string
		want   settings
	}{
		"nulls and empties":         {JSON, `{"node_name": null, "retry_join": [], "ports": {}}`, settings{Join: []string{}}},
		"a list of one object":      {JSON, `{"ports": [{"http": 1}]}`, settings{Ports: ports{HTTP: 1}}},
		"a repeated block merges":   {HCL, "ports { http = 1 }\nports { dns = 2 }", settings{Ports: ports{1, 2}}},
		"one value for a list":      {YAML, "retry_join: a", settings{Join: []string{"a"}}},
		"one object for a list":     {JSON, `{"services": {"name": "web"}}`, settings{Services: []service{{Name: "web"}}}},
		"quoted numbers and truth":  {JSON, `{"server": "true", "ports": {"http": "80"}, "ratio": "2"}`, settings{Server: true, Ratio: 2, Ports: ports{HTTP: 80}}},
		"an unquoted number":        {YAML, "node_meta: {rack: 7, up: true}", settings{Meta: map[string]string{"rack": "7", "up": "true"}}},
		"the case of keys":          {JSON, `{"Node_Name": "x"}`, settings{NodeName: "x"}},
		"squashed":                  {TOML, `log_level = "debug"`, settings{base: base{"debug"}}},
		"a pointer":                 {HCL, `services { check { interval = "1s" } }`, settings{Services: []service{{Check: &check{Interval: time.Second}}}}},
		"silent keys":               {JSON, `{"version": "1.2.3"}`, settings{}},
		"empty json":                {JSON, " \n", settings{}},
		"empty hcl":                 {HCL, "", settings{}},
		"empty yaml":                {YAML, "# nothing", settings{}},
		"a heredoc":                 {HCL, "node_name = <<-EOF\n  a\n  EOF\n", settings{NodeName: "a\n"}},
		"the last scalar of hcl":    {HCL, "node_name = \"a\"\nnode_name = \"b\"", settings{NodeName: "b"}},
		"an opaque map":             {YAML, "services: [{proxy: {Deep: [1]}}]", settings{Services: []service{{Proxy: map[string]any{"Deep": []any{int64(1)}}}}}},
		"a yaml date":               {YAML, "node_name: 2020-01-02", settings{NodeName: "2020-01-02T00:00:00Z"}},
		"yaml keys that are no str": {YAML, "node_meta: {1: a}", settings{Meta: map[string]string{"1": "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := load(t, c.text, c.format); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestMistakesNameFileAndKey(t *testing.T) {
	for name, c := range map[string]struct {
		format Format
		text   string
		want   string // after "failed to parse F: "; "..." at the end: a prefix
	}{
		"unknown":        {JSON, `{"node_nmae": "x"}`, "invalid config key node_nmae (did you mean node_name?)"},
		"nested":         {HCL, `ports { htpt = 1 }`, "invalid config key ports.htpt (did you mean ports.http?)"},
		"in a list":      {YAML, `services: [{name: a}, {nam: b}]`, "invalid config key services[1].nam (did you mean services[1].name?)"},
		"elsewhere":      {JSON, `{"dns": 1}`, "invalid config key dns (did you mean ports.dns?)"},
		"nothing near":   {TOML, `frobnicator = 1`, "invalid config key frobnicator"},
		"not a setting":  {TOML, `Runtime = "x"`, "invalid config key Runtime"},
		"beginning":      {TOML, `node = "x"`, "invalid config key node (did you mean node_name?)"},
		"two at once":    {JSON, `{"servr": true, "ports": {"http": "x"}}`, `ports.http: a whole number is needed here, not "x"; invalid config key servr (did you mean server?)`},
		"twice":          {JSON, `{"services": {"check": {"args": [], "script_args": []}}}`, "services[0].check.args and services[0].check.script_args are the same setting: keep one"},
		"type":           {JSON, `{"server": 3}`, "server: true or false is needed here, not 3"},
		"object":         {JSON, `{"ports": 3}`, "ports: an object is needed here, not 3"},
		"scalar":         {JSON, `{"node_name": {"a": 1}}`, "node_name: a string is needed here, not an object"},
		"range":          {JSON, `{"services": [{"port": 65536}]}`, "services[0].port: number 65536 is out of range"},
		"fraction":       {JSON, `{"ports": {"http": 1.5}}`, "ports.http: a whole number is needed here, not 1.5"},
		"duration":       {JSON, `{"timeout": 10}`, `timeout: 10 is not a duration: write a string with a unit, such as "10s"`},
		"duration text":  {JSON, `{"timeout": "ten"}`, `timeout: "ten" is not a duration: write a number with a unit, such as "10s"`},
		"json syntax":    {JSON, "{\n \"a\": }", "line 2, column 7: ..."},
		"json cut off":   {JSON, `{"a": `, "unexpected EOF"},
		"json a list":    {JSON, `[1]`, "line 1, column 1: an object is needed here, not array"},
		"json twice":     {JSON, `{} {}`, "line 1, column 4: more text after the end of the object"},
		"json number":    {JSON, `{"a": 1e999}`, "number 1e999 is out of range"},
		"yaml a list":    {YAML, `[1]`, "an object with keys is needed, not a list of 1"},
		"yaml documents": {YAML, "server: true\n---\nserver: false", "more than one YAML document in the file"},
		"yaml syntax":    {YAML, "a: [", "yaml: ..."},
		"hcl syntax":     {HCL, "a = [", "..."},
		"hcl number":     {HCL, "ratio = 99999999999999999999", "..."},
		"toml syntax":    {TOML, "a = = 1", "line 1, column 5: ..."},
		"nesting":        {JSON, strings.Repeat("[", 1<<20), "brackets are nested too deeply"},
		"yaml nesting":   {YAML, "a:\n" + strings.Repeat("- ", 1000) + "x", "values are nested too deeply"},
		"hcl nesting":    {HCL, strings.Repeat("a ", 1000) + "{}", "values are nested too deeply"},
		"size":           {YAML, "#" + strings.Repeat("x", MaxFileSize), "larger than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse("F", []byte(c.text), c.format)
			if err == nil {
				_, err = Check("F", m, &settings{})
			}
			if err == nil {
				t.Fatal("no error")
			}
			want := "failed to parse F: " + c.want
			if prefix, cut := strings.CutSuffix(want, "..."); cut && strings.HasPrefix(err.Error(), prefix) {
				return
			}
			if err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
		})
	}
}

func TestIgnoredKeysAreNamed(t *testing.T) {
	m, err := Parse("F", []byte(`{"peering": {"anything": [1]}, "connect": null, "services": [{"proxy": {"a": 1}}, {"proxy": {}}], "version": "1"}`), JSON)
	if err != nil {
		t.Fatal(err)
	}
	fitted, err := Check("F", m, settings{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"peering", "services[0].proxy"}; !reflect.DeepEqual(fitted.Ignored, want) {
		t.Errorf("got %v, want %v", fitted.Ignored, want)
	}
}

func TestManyMistakesAreBounded(t *testing.T) {
	m := map[string]any{}
	for _, c := range "abcdefghijklmnop" {
		m[strings.Repeat(string(c), 9)] = true
	}
	_, err := Check("F", m, settings{})
	if err == nil || strings.Count(err.Error(), "invalid config key") != maxReported || !strings.HasSuffix(err.Error(), "and 6 more") {
		t.Errorf("got %v", err)
	}
}

func TestReadPath(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("b.json", `{"node_name": "b"}`)
	write("a.hcl", `node_name = "a"`)
	write("c.yml", `node_name: c`)
	write("d.toml", `node_name = "d"`)
	write("b.json~", `garbage`)
	if err := os.Mkdir(filepath.Join(dir, "sub.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a.hcl"), filepath.Join(dir, "z.hcl")); err != nil {
		t.Fatal(err)
	}

	files, skipped, err := ReadPath(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, filepath.Base(f.Name)+"="+f.Map["node_name"].(string))
	}
	if want := "a.hcl=a b.json=b c.yml=c d.toml=d z.hcl=a"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(skipped) != 1 || filepath.Base(skipped[0]) != "b.json~" {
		t.Errorf("skipped %v", skipped)
	}

	if _, _, err = ReadPath(dir, YAML); err == nil || !strings.Contains(err.Error(), "a.hcl") {
		t.Errorf("with a format every file is read as it: %v", err)
	}
	path := write("plain", `node_name = "p"`)
	if _, _, err = ReadPath(path, ""); err == nil || !strings.Contains(err.Error(), "plain has unknown extension; must be") {
		t.Errorf("got %v", err)
	}
	if files, _, err = ReadPath(path, HCL); err != nil || files[0].Map["node_name"] != "p" {
		t.Errorf("got %v, %v", files, err)
	}
	if _, _, err = ReadPath(filepath.Join(dir, "none.json"), ""); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("got %v", err)
	}
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "y.json")); err != nil {
		t.Fatal(err)
	}
	if _, _, err = ReadPath(dir, ""); err == nil || !strings.Contains(err.Error(), "y.json") {
		t.Errorf("a link that leads nowhere must be reported, got %v", err)
	}
}

func TestMerge(t *testing.T) {
	base := map[string]any{"a": 1, "list": []any{"x"}, "obj": map[string]any{"k": 1, "deep": map[string]any{"d": 1}}, "keep": true}
	over := map[string]any{"a": 2, "list": []any{"y"}, "obj": map[string]any{"k": 2, "l": 3, "deep": map[string]any{"e": 2}}, "keep": nil, "new": []any{1}}
	got := Merge(base, over)
	want := map[string]any{"a": 2, "list": []any{"x", "y"}, "keep": true, "new": []any{1},
		"obj": map[string]any{"k": 2, "l": 3, "deep": map[string]any{"d": 1, "e": 2}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	got["obj"].(map[string]any)["k"] = 9
	if base["obj"].(map[string]any)["k"] != 1 || over["obj"].(map[string]any)["k"] != 2 || len(base["list"].([]any)) != 1 {
		t.Error("Merge changed what it was given")
	}
}

func TestNest(t *testing.T) {
	got, err := Nest(map[string]any{"ports.http": 1, "ports.dns": int32(-1), "node_meta": map[string]string{"A.b": "c"},
		"retry_join": []string{"x"}, "timeout": time.Second})
	want := map[string]any{"ports": map[string]any{"http": int64(1), "dns": int64(-1)}, "node_meta": map[string]any{"A.b": "c"},
		"retry_join": []any{"x"}, "timeout": "1s"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	if _, err := Nest(map[string]any{"a": func() {}}); err == nil || !strings.Contains(err.Error(), "setting a") {
		t.Errorf("got %v", err)
	}
}

func TestWalk(t *testing.T) {
	var keys []string
	for _, p := range Walk(&settings{}) {
		keys = append(keys, strings.Join(append([]string{p.Key}, p.Options...), "+"))
	}
	want := "log_level+reload node_name server ratio ports.http ports.dns node_meta retry_join services timeout"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseFormat(t *testing.T) {
	for in, want := range map[string]Format{"": "", "json": JSON, "HCL": HCL, "yml": YAML, "toml": TOML} {
		if got, err := ParseFormat(in); err != nil || got != want {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
	if _, err := ParseFormat("ini"); err == nil {
		t.Error("ini is not a format")
	}
}

// FuzzParse: no input may panic or yield a map that Check cannot handle.
func FuzzParse(f *testing.F) {
	for i, text := range []string{inJSON, inHCL, inYAML, inTOML, "a = 08", "a = 1e", "a \"b\" \"c\" {}", "a: &x [*x]", "a: <<EOF"} {
		f.Add(text, i%4)
	}
	f.Fuzz(func(t *testing.T, text string, i int) {
		format := []Format{JSON, HCL, YAML, TOML}[((i%4)+4)%4]
		m, err := Parse("F", []byte(text), format)
		if err != nil {
			return
		}
		fitted, err := Check("F", m, settings{})
		if err != nil {
			return
		}
		var out settings
		if err := Decode(fitted.Map, &out); err != nil {
			t.Fatalf("what fits must decode: %v", err)
		}
	})
}
