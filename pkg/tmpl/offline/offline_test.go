package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
)

// files writes name, content pairs into a folder of the test.
func files(t *testing.T, pairs ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, pairs[i]), []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// template is dir/in.tpl, with a destination of that name; "" is none.
func template(dir, to string) []tmpl.Template {
	t := tmpl.Template{Source: filepath.Join(dir, "in.tpl")}
	if to != "" {
		t.Destination = filepath.Join(dir, to)
	}
	return []tmpl.Template{t}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// live is an agent that knows keys.
func live(t *testing.T, keys ...string) tmpl.Fetch {
	t.Helper()
	c := tmpltest.New()
	for i := 0; i < len(keys); i += 2 {
		c.SetKey(keys[i], keys[i+1])
	}
	agent, err := client.New(client.Config{Transport: c.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	return Live(agent)
}

func fixture() Fixture {
	return Fixture{"/v1/kv/name": json.RawMessage(`[{"Key": "name", "Value": "YmlsbGluZw=="}]`)}
}

func TestGoldenFile(t *testing.T) {
	dir := files(t, "in.tpl", "name = {{key \"name\"}}\n", "golden", "name = orders\n")
	var out bytes.Buffer
	err := Test(t.Context(), template(dir, "golden"), fixture(), false, &out)
	if !errors.Is(err, ErrDiffers) || !strings.Contains(out.String(), "-name = orders\n+name = billing\n") {
		t.Errorf("%v, and a diff\n%s", err, &out)
	}
	if err := Test(t.Context(), template(dir, "golden"), fixture(), true, &out); err != nil || read(t, filepath.Join(dir, "golden")) != "name = billing\n" {
		t.Errorf("%v, and the golden file %q", err, read(t, filepath.Join(dir, "golden")))
	}
	out.Reset()
	if err := Test(t.Context(), template(dir, "golden"), fixture(), false, &out); err != nil || out.Len() > 0 {
		t.Errorf("%v, and a diff\n%s", err, &out)
	}
	if err := Test(t.Context(), template(dir, ""), fixture(), false, &out); err != nil || out.String() != "name = billing\n" {
		t.Errorf("%v, and without a golden file %q", err, &out)
	}
}

func TestFixtureThatLacksAnAnswer(t *testing.T) {
	dir := files(t, "in.tpl", `{{key "name"}}{{key "port"}}`)
	f := fixture()
	if err := Test(t.Context(), template(dir, ""), f, false, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), `the fixture has no "/v1/kv/port"`) {
		t.Errorf("%v", err)
	}
	f["/v1/kv/port"] = json.RawMessage("null")
	if err := Test(t.Context(), template(dir, ""), f, false, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "in.tpl: it waits for") {
		t.Errorf("%v", err)
	}
}

// What is recorded renders the same text.
func TestRecordedFixture(t *testing.T) {
	dir := files(t, "in.tpl", `{{range ls "app"}}{{.Key}}={{.Value}} {{end}}{{keyOrDefault "none" "-"}}`, "golden", "a=1 b=2 -")
	data, warnings, err := Record(t.Context(), template(dir, ""), live(t, "app/a", "1", "app/b", "2"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if err := os.WriteFile(filepath.Join(dir, "fixture"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := ReadFixture(filepath.Join(dir, "fixture"))
	if err != nil || string(f["/v1/kv/none"]) != "null" {
		t.Fatalf("%v in\n%s", err, data)
	}
	var out bytes.Buffer
	if err := Test(t.Context(), template(dir, "golden"), f, false, &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if again, err := f.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("encoded again:\n%s", again)
	}
}

func TestRecordWarnsOfWhatIsMissing(t *testing.T) {
	dir := files(t, "in.tpl", `{{key "none"}}`)
	data, warnings, err := Record(t.Context(), template(dir, ""), live(t))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "in.tpl cannot be rendered from this") || !strings.Contains(string(data), `"/v1/kv/none": null`) {
		t.Errorf("%v, %q, %s", err, warnings, data)
	}
}

func TestDiffChangesNothing(t *testing.T) {
	dir := files(t, "in.tpl", "{{key \"name\"}}\n{{key \"name\" | writeToFile \"FILE\" \"\" \"\" \"0644\"}}")
	beside := filepath.Join(dir, "beside")
	in := strings.ReplaceAll(read(t, filepath.Join(dir, "in.tpl")), "FILE", beside)
	if err := os.WriteFile(filepath.Join(dir, "in.tpl"), []byte(in), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Diff(t.Context(), template(dir, "out"), live(t, "name", "billing"), &out)
	if !errors.Is(err, ErrDiffers) || strings.Count(out.String(), "+billing") != 2 || !strings.Contains(out.String(), "(not there)") {
		t.Errorf("%v, and a diff\n%s", err, &out)
	}
	for _, name := range []string{"out", "beside"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExplain(t *testing.T) {
	dir := files(t, "in.tpl", `{{range ls "app"}}{{key (print "app/" .Key)}}{{end}}{{key "none"}}{{file "`+os.DevNull+`"}}`)
	var out bytes.Buffer
	if err := Explain(context.Background(), template(dir, "out"), live(t, "app/a", "1"), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"in.tpl -> " + filepath.Join(dir, "out") + ": 3 look-ups, 3 passes\n", "  GET /v1/kv/app?recurse=\n", "  GET /v1/kv/app/a\n",
		"  file " + os.DevNull + "\n", "  waits for kv.get(none) (nothing there yet)\n", "3 requests in all",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
}
