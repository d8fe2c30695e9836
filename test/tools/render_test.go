package tools

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/test/harness"
)

// allServices asks for a list, and for each of its items.
const allServices = `{{ range services }}{{ range service .Name }}{{ .ID }}:{{ .Port }} {{ end }}{{ end }}`

// fill registers n services, one instance each, on ports from 1000 on.
func fill(t *testing.T, a *agent, n int) {
	t.Helper()
	for i := range n {
		a.RegisterNode(fmt.Sprintf("s%d", i), fmt.Sprintf("id%d", i), 1000+i)
	}
}

// The first file is the whole one, however many rounds its look-ups take; a
// change renders those templates again that show it, and runs each command once.
func TestNestedLookups(t *testing.T) {
	const n = 150
	a := harness.Dev(t)
	fill(t, a, n)
	a.AwaitPutKey("colour", "red")
	f := a.Folder(t)
	f.Write("all.in", allServices)
	f.Write("one.in", `{{ range service "s7" }}{{ .Port }}{{ end }}`)
	f.Write("kv.in", `{{ key "colour" }}`)
	f.Write("same.in", `again {{ key "colour" }}`)
	f.Run("tmpl",
		"-template", "all.in:all:wc -w <all >>sizes",
		"-template", "one.in:one:cat one >>ports; echo one >>runs",
		"-template", "kv.in:kv:echo kv >>runs",
		"-template", "same.in:same:echo kv >>runs",
		"-exec", "echo exec >>runs",
	)
	f.AwaitPart("runs", "exec\n")
	f.AwaitText("runs", "one\nkv\nexec\n")
	f.AwaitText("sizes", fmt.Sprintf("%d\n", n+1)) // and the service consul

	a.RegisterNode("s7", "id7", 7)
	f.AwaitText("runs", "one\nkv\nexec\none\nexec\n")
	f.AwaitPart("all", " id7:7 ")
	f.AwaitText("ports", "10077")
	a.AwaitPutKey("colour", "blue")
	f.AwaitText("runs", "one\nkv\nexec\none\nexec\nkv\nexec\n")
	a.RegisterNode("s0", "id0", 9)
	f.AwaitPart("all", "id0:9 ")
	f.AwaitText("sizes", strings.Repeat(fmt.Sprintf("%d\n", n+1), 3))
	f.AwaitText("runs", "one\nkv\nexec\none\nexec\nkv\nexec\nexec\n")
}

// Past the number of queries that can wait at the agent at the same time, they
// take turns: changes are still seen within a second, and with the agent's usual
// limits no connection is refused.
func TestMoreQueriesThanConnections(t *testing.T) {
	const n = 300
	a := harness.Dev(t)
	fill(t, a, n)
	f := a.Folder(t)
	f.Write("in", allServices)
	f.Run("tmpl", "-template", "in:out", "-log-level=debug")
	f.AwaitPart("out", "id299:1299 ")
	var slowest time.Duration
	for i := range 20 {
		begun := time.Now()
		a.RegisterNode(fmt.Sprintf("s%d", i*15), fmt.Sprintf("id%d", i*15), i+1)
		f.AwaitPart("out", fmt.Sprintf("id%d:%d ", i*15, i+1))
		slowest = max(slowest, time.Since(begun))
	}
	t.Log("slowest change", slowest)
	if slowest > 2*time.Second { // half a second, and room for a busy machine
		t.Errorf("a change took %v", slowest)
	}
	if strings.Contains(f.Read("log"), "cannot get data") {
		t.Errorf("a request was refused:\n%s", f.Read("log"))
	}
}

func TestOnceAndDry(t *testing.T) {
	a := harness.Dev(t)
	fill(t, a, 5)
	f := a.Folder(t)
	f.Write("in", allServices)
	code, stdout, stderr := f.Once("tmpl", "-template", "in:out:echo ran >>runs", "-exec", "echo exec >>runs", "-once", "-dry")
	if want := "id0:1000 id1:1001 id2:1002 id3:1003 id4:1004 "; code != 0 || !strings.HasPrefix(stdout, "> out\n") || !strings.HasSuffix(stdout, want) {
		t.Errorf("-dry: code %d\n%s\n%s", code, stdout, stderr)
	}
	if f.Read("out")+f.Read("runs") != "" {
		t.Error("-dry wrote or ran something")
	}
	for range 2 { // the command of a template runs on change only
		if code, _, stderr := f.Once("tmpl", "-template", "in:out:echo ran >>runs", "-exec", "echo exec >>runs", "-once"); code != 0 {
			t.Errorf("-once: code %d\n%s", code, stderr)
		}
	}
	f.AwaitText("runs", "ran\nexec\nexec\n")

	// -dry as a daemon prints again what has changed.
	f.Write("key.in", `{{ keyOrDefault "k" "none" }}{{ "\n" }}`)
	f.Run("tmpl", "-template", "key.in:key", "-dry")
	f.AwaitPart("log", "> key\nnone\n")
	a.AwaitPutKey("k", "v")
	f.AwaitPart("log", "> key\nnone\n> key\nv\n")
	if f.Read("key") != "" {
		t.Error("-dry wrote a file")
	}
}

// Changes that follow each other closely make one new file.
func TestWait(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "0")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}{{ "\n" }}`)
	f.Run("tmpl", "-template", "in:out:cat out >>versions", "-wait", "1s:10s")
	f.AwaitText("versions", "0\n") // the first does not wait
	for i := range 10 {
		a.AwaitPutKey("k", fmt.Sprint(i+1))
	}
	begun := time.Now()
	f.AwaitText("versions", "0\n10\n")
	if d := time.Since(begun); d < 500*time.Millisecond {
		t.Errorf("written after %v without waiting", d)
	}
}

// Keys may contain characters with a meaning in a URL.
func TestKeys(t *testing.T) {
	a := harness.Dev(t)
	f := a.Folder(t)
	keys := []string{
		"plain", "what?", "a?b=c", "a#b", "100%", "%41", "with space", "a+b", "x&y=z", "semi;colon", "a:b|c~d", "grün", `quo"te`,
	}
	var in, want strings.Builder
	for i, k := range keys {
		fmt.Fprintf(&in, "{{ key %q }} {{ keyExists %q }} {{ keyOrDefault %q \"none\" }} {{ keyOrDefault %q \"none\" }}\n",
			"odd/"+k, "odd/"+k, "odd/"+k, "no/"+k)
		fmt.Fprintf(&want, "v%d true v%d none\n", i, i)
		if i > 0 {
			a.AwaitPutKey("odd/"+k, fmt.Sprintf("v%d", i))
		}
	}
	f.Write("in", in.String())
	f.Write("lists.in", `{{ range ls "odd" }}{{ .Key }}={{ .Value }},{{ end }}
{{ range tree "odd/a" }}{{ .Path }},{{ end }}
{{ range tree "none/" }}{{ .Key }}{{ else }}nothing{{ end }}
{{ range ls "we?rd#/%/" }}{{ .Key }}={{ .Value }},{{ end }}
`)
	a.AwaitPutKey("we?rd#/%/k 1", "1")
	a.AwaitPutKey("we?rd#/%/sub/k", "2")
	f.Run("tmpl", "-template", "in:out", "-template", "lists.in:lists")
	f.AwaitPart("log", "template waits for data", "kv.get(odd/plain) (nothing there yet)")
	if f.Read("out") != "" {
		t.Error("rendered while a key is missing")
	}
	a.AwaitPutKey("odd/plain", "v0")
	f.AwaitText("out", want.String())
	f.AwaitText("lists", `%41=v5,100%=v4,a#b=v3,a+b=v7,a:b|c~d=v10,a?b=c=v2,grün=v11,plain=v0,quo"te=v12,semi;colon=v9,what?=v1,with space=v6,x&y=z=v8,`+`
odd/a#b,odd/a+b,odd/a:b|c~d,odd/a?b=c,
nothing
k 1=1,
`)
	a.AwaitPutKey("odd/100%", "new")
	f.AwaitPart("lists", "100%=new,")
	if err := deleteKey(t.Context(), a, "odd/what?"); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, "the deleted key is gone from the list", func(context.Context) error {
		if strings.Contains(f.Read("lists"), "what?") {
			return fmt.Errorf("%s", f.Read("lists"))
		}
		return nil
	})
	if f.Read("out") != strings.Replace(want.String(), "v4 true v4", "new true new", 1) {
		t.Errorf("a key that was deleted must keep the last good file:\n%s", f.Read("out"))
	}
}
