package env

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func pairs(prefix string, keysAndValues ...string) []Pair {
	var out []Pair
	for i := 0; i < len(keysAndValues); i += 2 {
		out = append(out, Pair{Key: keysAndValues[i], Value: keysAndValues[i+1], From: prefix + keysAndValues[i]})
	}
	return out
}

func format(t *testing.T, text string) *Format {
	t.Helper()
	f, err := ParseFormat(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestBuild(t *testing.T) {
	app := Source{Name: "prefix app/", Pairs: pairs("app/", "db/Host-1", "pg", "ünï", "2", "", "folder")}
	named, formatted, expanded := app, app, app
	named.Prepend = "my/app"
	formatted.Format = format(t, `X_{{ key | replaceKey "/" "." }}_{{ replaceKey "db" "" }}`)
	expanded.Expand = true
	expanded.Pairs = pairs("app/", "a", `{"b": {"c": 1.50, "d": true}, "e": null, "f": [1, "<"]}`, "g", `[1]`, "h", `{"x"`, "i", `{} {}`)
	web := Source{Name: "service web", LastWins: true, Pairs: pairs("", "web/id", "1", "web/id", "2")}
	tests := []struct {
		name    string
		sources []Source
		rules   Rules
		want    string
	}{
		{"nothing", nil, Rules{}, ""},
		{"sanitized, case kept", []Source{app}, Rules{}, "_n_=2 db_Host_1=pg"},
		{"raw", []Source{app}, Rules{Raw: true}, "db/Host-1=pg ünï=2"},
		{"upper case", []Source{app}, Rules{Upcase: true}, "DB_HOST_1=pg _N_=2"},
		{"raw upper case", []Source{app}, Rules{Raw: true, Upcase: true}, "DB/HOST-1=pg ÜNÏ=2"},
		{"with the path", []Source{named}, Rules{}, "my_app__n_=2 my_app_db_Host_1=pg"},
		{"raw with the path", []Source{named}, Rules{Raw: true}, "my_app_db/Host-1=pg my_app_ünï=2"},
		{"format", []Source{formatted}, Rules{Raw: true}, "X_db.Host-1_/Host-1=pg X_ünï_ünï=2"},
		{"a later source wins", []Source{app, {Pairs: pairs("", "db_Host_1", "other")}}, Rules{}, "_n_=2 db_Host_1=other"},
		{"a later instance wins", []Source{web}, Rules{}, "web_id=2"},
		{"denied", []Source{app, web}, Rules{Deny: []string{"db*", "_n_"}}, "web_id=2"},
		{"JSON", []Source{expanded}, Rules{}, `a_b_c=1.50 a_b_d=true a_e= a_f=[1,"<"] g=[1] h={"x" i={} {}`},
	}
	for _, tt := range tests {
		vars, err := Build(tt.sources, tt.rules)
		if got := strings.Join(Environ(vars), " "); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v\nwant %q", tt.name, got, err, tt.want)
		}
	}
}

func TestBuildSaysWhatCannotBe(t *testing.T) {
	tests := []struct {
		name   string
		source Source
		rules  Rules
		want   string
	}{
		{"collision", Source{Pairs: pairs("app/", "a-b", "1", "a/b", "2")}, Rules{}, "app/a-b and app/a/b both become a_b"},
		{"collision by case", Source{Pairs: pairs("app/", "a", "1", "A", "2")}, Rules{Upcase: true}, "app/a and app/A both become A"},
		{"collision by JSON", Source{Expand: true, Pairs: pairs("app/", "a", `{"b":1}`, "a/b", "2")}, Rules{}, "app/a#b and app/a/b both become a_b"},
		{"zero byte", Source{Pairs: pairs("app/", "a", "x\x00y")}, Rules{}, "app/a: the value holds a zero byte"},
		{"raw name", Source{Pairs: pairs("app/", "a=b", "1")}, Rules{Raw: true}, `app/a=b: "a=b" is no name`},
		{"long value", Source{Pairs: pairs("app/", "a", strings.Repeat("x", 200_000))}, Rules{}, "app/a: the value has 200000 bytes, more than the limit"},
		{"long name", Source{Pairs: pairs("app/", strings.Repeat("x", 5000), "")}, Rules{}, "the name would have 5000 bytes"},
		{"format", Source{Format: format(t, `{{ index "" 3 }}`), Pairs: pairs("app/", "a", "1")}, Rules{}, "app/a: format: "},
	}
	for _, tt := range tests {
		vars, err := Build([]Source{tt.source}, tt.rules)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v\nwant %q", tt.name, vars, err, tt.want)
		}
	}
	many := Source{}
	for i := range MaxVars + 1 {
		many.Pairs = append(many.Pairs, Pair{Key: fmt.Sprint("k", i)})
	}
	if _, err := Build([]Source{many}, Rules{}); err == nil || !strings.Contains(err.Error(), "limit of 10000") {
		t.Errorf("too many: %v", err)
	}
	for _, bad := range []string{"{{", "{{ secret }}", `{{ replaceKey "a" }}x{{`} {
		if _, err := ParseFormat(bad); err == nil {
			t.Errorf("format %q is taken", bad)
		}
	}
}

// The winner names all that it hides, the nearest last.
func TestExplain(t *testing.T) {
	vars, err := Build([]Source{
		{Name: "prefix a/", Pairs: pairs("a/", "x", "1", "long_name", "2")},
		{Name: "prefix b/", Pairs: pairs("b/", "x", "secret")},
		{Name: "prefix c/", Pairs: pairs("c/", "x", "secret")},
	}, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	want := "long_name  a/long_name  (prefix a/)\nx          c/x  (prefix c/), instead of b/x, a/x\n"
	if got := Explain(vars); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestObject(t *testing.T) {
	got, err := Object(`{"host": "pg", "pool": {"max": 5}}`, "app/config")
	want := []Pair{{"host", "pg", "app/config#host"}, {"pool/max", "5", "app/config#pool.max"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "null", "[]", `"x"`, "{} 1", "{"} {
		if got, err := Object(bad, "k"); err == nil || !strings.Contains(err.Error(), "k: the value is no JSON object") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

// A value that is not exactly one JSON object stays as it is, byte for byte.
func TestWhatIsNoObject(t *testing.T) {
	for _, value := range []string{`{"a": 1} }`, `{"a": 1}]`, `{"a": 1}x`, "{\"a\": \"\xff\"}", "{\"\xff\": 1}", `{"a": 1} {`, "{\x00}"[:1]} {
		vars, err := Build([]Source{{Expand: true, Pairs: pairs("", "k", value)}}, Rules{})
		if err != nil || len(vars) != 1 || vars[0].Value != value {
			t.Errorf("%q: %q, %v", value, vars, err)
		}
		if got, err := Object(value, "k"); err == nil {
			t.Errorf("%q is the object %v", value, got)
		}
	}
	if got, err := Object(` {"n": 12345678901234567890, "f": 1.50, "e": 2592000}`+"\n", "k"); err != nil ||
		!slices.Equal(got, []Pair{{"e", "2592000", "k#e"}, {"f", "1.50", "k#f"}, {"n", "12345678901234567890", "k#n"}}) {
		t.Errorf("numbers: %v, %v", got, err)
	}
}

// A key with a line end cannot add a line to what is printed.
func TestHostileKeysAreQuoted(t *testing.T) {
	const key = "a\nPATH  forged\x1b[2J\xff\u2028"
	vars, err := Build([]Source{{Name: "prefix " + key, Pairs: pairs("app/", key, "1")}, {Name: "later", Pairs: pairs("b/", key, "2")}}, Rules{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	told := []string{Explain(vars)}
	for _, bad := range []Source{{Pairs: pairs("app/", key, "1", key, "2")}, {Pairs: pairs("app/", key, "\x00")}, {Pairs: pairs("app/", key+"=", "")}} {
		_, err := Build([]Source{bad}, Rules{Raw: true})
		if err == nil {
			t.Fatalf("%v is taken", bad)
		}
		told = append(told, err.Error())
	}
	_, err = Print(vars, Shell)
	for _, text := range append(told, fmt.Sprint(err)) {
		if text = strings.TrimSuffix(text, "\n"); strings.ContainsAny(text, "\n\x1b\u2028") || !strings.Contains(text, `a\nPATH  forged\x1b[2J\xff\u2028`) {
			t.Errorf("%q", text)
		}
	}
}

func TestServicePairs(t *testing.T) {
	in := Instance{Service: "web", ID: "w1", Name: "web", Address: "1.2.3.4", Port: "80", Tags: []string{"a", "b"}}
	for want, f := range map[string]ServiceFormats{
		"web_address=1.2.3.4 web_id=w1 web_name=web web_port=80 web_tag=a,b": {},
		"P=80 id_web=w1 web_address=1.2.3.4 web_name=web web_tag=a,b": {
			ID: format(t, "{{ key }}/{{ service }}"), Port: format(t, "P"),
		},
	} {
		list, err := f.Pairs([]Instance{in})
		if err != nil {
			t.Fatal(err)
		}
		vars, err := Build([]Source{{Pairs: list, LastWins: true}}, Rules{})
		if got := strings.Join(Environ(vars), " "); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

// Whatever keys there are: names are unique, sorted, and such as the rules promise, or
// there is an error.
func FuzzBuild(f *testing.F) {
	f.Add("a/b", "a-b", `{"x":{"y":1}}`, true, false)
	f.Add("ä", "=", "\x00", false, true)
	f.Fuzz(func(t *testing.T, one, two, value string, expand, upcase bool) {
		vars, err := Build([]Source{{Pairs: pairs("", one, value, two, value), Expand: expand}}, Rules{Upcase: upcase})
		if err != nil {
			return
		}
		for i, v := range vars {
			if v.Name == "" || Sanitize(v.Name) != v.Name || strings.Contains(v.Value, "\x00") || i > 0 && vars[i-1].Name >= v.Name {
				t.Errorf("%q", vars)
			}
		}
	})
}
