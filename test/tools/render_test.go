package tools

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// allServices asks for a list, and for each of its items.
const allServices = `{{ range services }}{{ range service .Name }}{{ .ID }}:{{ .Port }} {{ end }}{{ end }}`

// fill registers n services, one instance each, on ports from 1000 on.
func fill(t *testing.T, a *agent, n int) {
	t.Helper()
	for i := range n {
		a.register(fmt.Sprintf("s%d", i), fmt.Sprintf("id%d", i), 1000+i)
	}
}

// The first file is the whole one, however many rounds its look-ups take; a
// change renders those templates again that show it, and runs each command once.
func TestNestedLookups(t *testing.T) {
	const n = 150
	a := dev(t)
	fill(t, a, n)
	a.put("colour", "red")
	f := work(t, a)
	f.write("all.in", allServices)
	f.write("one.in", `{{ range service "s7" }}{{ .Port }}{{ end }}`)
	f.write("kv.in", `{{ key "colour" }}`)
	f.write("same.in", `again {{ key "colour" }}`)
	f.tmpl(
		"-template", "all.in:all:wc -w <all >>sizes",
		"-template", "one.in:one:cat one >>ports; echo one >>runs",
		"-template", "kv.in:kv:echo kv >>runs",
		"-template", "same.in:same:echo kv >>runs",
		"-exec", "echo exec >>runs",
	)
	f.awaitPart("runs", "exec\n")
	f.awaitText("runs", "one\nkv\nexec\n")
	f.awaitText("sizes", fmt.Sprintf("%d\n", n+1)) // and the service consul

	a.register("s7", "id7", 7)
	f.awaitText("runs", "one\nkv\nexec\none\nexec\n")
	f.awaitPart("all", " id7:7 ")
	f.awaitText("ports", "10077")
	a.put("colour", "blue")
	f.awaitText("runs", "one\nkv\nexec\none\nexec\nkv\nexec\n")
	a.register("s0", "id0", 9)
	f.awaitPart("all", "id0:9 ")
	f.awaitText("sizes", strings.Repeat(fmt.Sprintf("%d\n", n+1), 3))
	f.awaitText("runs", "one\nkv\nexec\none\nexec\nkv\nexec\nexec\n")
}

// Past the number of queries that can wait at the agent at the same time, they
// take turns: changes are still seen within a second, and with the agent's usual
// limits no connection is refused.
func TestMoreQueriesThanConnections(t *testing.T) {
	const n = 300
	a := dev(t)
	fill(t, a, n)
	f := work(t, a)
	f.write("in", allServices)
	f.tmpl("-template", "in:out", "-log-level=debug")
	f.awaitPart("out", "id299:1299 ")
	var slowest time.Duration
	for i := range 20 {
		begun := time.Now()
		a.register(fmt.Sprintf("s%d", i*15), fmt.Sprintf("id%d", i*15), i+1)
		f.awaitPart("out", fmt.Sprintf("id%d:%d ", i*15, i+1))
		slowest = max(slowest, time.Since(begun))
	}
	t.Log("slowest change", slowest)
	if slowest > 2*time.Second { // half a second, and room for a busy machine
		t.Errorf("a change took %v", slowest)
	}
	if strings.Contains(f.read("log"), "cannot get data") {
		t.Errorf("a request was refused:\n%s", f.read("log"))
	}
}

func TestOnceAndDry(t *testing.T) {
	a := dev(t)
	fill(t, a, 5)
	f := work(t, a)
	f.write("in", allServices)
	code, stdout, stderr := f.once("-template", "in:out:echo ran >>runs", "-exec", "echo exec >>runs", "-once", "-dry")
	if want := "id0:1000 id1:1001 id2:1002 id3:1003 id4:1004 "; code != 0 || !strings.HasPrefix(stdout, "> out\n") || !strings.HasSuffix(stdout, want) {
		t.Errorf("-dry: code %d\n%s\n%s", code, stdout, stderr)
	}
	if f.read("out")+f.read("runs") != "" {
		t.Error("-dry wrote or ran something")
	}
	for range 2 { // the command of a template runs on change only
		if code, _, stderr := f.once("-template", "in:out:echo ran >>runs", "-exec", "echo exec >>runs", "-once"); code != 0 {
			t.Errorf("-once: code %d\n%s", code, stderr)
		}
	}
	f.awaitText("runs", "ran\nexec\nexec\n")

	// -dry as a daemon prints again what has changed.
	f.write("key.in", `{{ keyOrDefault "k" "none" }}{{ "\n" }}`)
	f.tmpl("-template", "key.in:key", "-dry")
	f.awaitPart("log", "> key\nnone\n")
	a.put("k", "v")
	f.awaitPart("log", "> key\nnone\n> key\nv\n")
	if f.read("key") != "" {
		t.Error("-dry wrote a file")
	}
}

// Changes that follow each other closely make one new file.
func TestWait(t *testing.T) {
	a := dev(t)
	a.put("k", "0")
	f := work(t, a)
	f.write("in", `{{ key "k" }}{{ "\n" }}`)
	f.tmpl("-template", "in:out:cat out >>versions", "-wait", "1s:10s")
	f.awaitText("versions", "0\n") // the first does not wait
	for i := range 10 {
		a.put("k", fmt.Sprint(i+1))
	}
	begun := time.Now()
	f.awaitText("versions", "0\n10\n")
	if d := time.Since(begun); d < 500*time.Millisecond {
		t.Errorf("written after %v without waiting", d)
	}
}

// Keys may hold what means something in an URL.
func TestKeys(t *testing.T) {
	a := dev(t)
	f := work(t, a)
	keys := []string{
		"plain", "what?", "a?b=c", "a#b", "100%", "%41", "with space", "a+b", "x&y=z", "semi;colon", "a:b|c~d", "grün", `quo"te`,
	}
	var in, want strings.Builder
	for i, k := range keys {
		fmt.Fprintf(&in, "{{ key %q }} {{ keyExists %q }} {{ keyOrDefault %q \"none\" }} {{ keyOrDefault %q \"none\" }}\n",
			"odd/"+k, "odd/"+k, "odd/"+k, "no/"+k)
		fmt.Fprintf(&want, "v%d true v%d none\n", i, i)
		if i > 0 {
			a.put("odd/"+k, fmt.Sprintf("v%d", i))
		}
	}
	f.write("in", in.String())
	f.write("lists.in", `{{ range ls "odd" }}{{ .Key }}={{ .Value }},{{ end }}
{{ range tree "odd/a" }}{{ .Path }},{{ end }}
{{ range tree "none/" }}{{ .Key }}{{ else }}nothing{{ end }}
{{ range ls "we?rd#/%/" }}{{ .Key }}={{ .Value }},{{ end }}
`)
	a.put("we?rd#/%/k 1", "1")
	a.put("we?rd#/%/sub/k", "2")
	f.tmpl("-template", "in:out", "-template", "lists.in:lists")
	f.awaitPart("log", "template waits for data", "kv.get(odd/plain) (nothing there yet)")
	if f.read("out") != "" {
		t.Error("rendered while a key is missing")
	}
	a.put("odd/plain", "v0")
	f.awaitText("out", want.String())
	f.awaitText("lists", `%41=v5,100%=v4,a#b=v3,a+b=v7,a:b|c~d=v10,a?b=c=v2,grün=v11,plain=v0,quo"te=v12,semi;colon=v9,what?=v1,with space=v6,x&y=z=v8,`+`
odd/a#b,odd/a+b,odd/a:b|c~d,odd/a?b=c,
nothing
k 1=1,
`)
	a.put("odd/100%", "new")
	f.awaitPart("lists", "100%=new,")
	if err := deleteKey(t.Context(), a, "odd/what?"); err != nil {
		t.Fatal(err)
	}
	until(t, "the deleted key is gone from the list", func(context.Context) error {
		if strings.Contains(f.read("lists"), "what?") {
			return fmt.Errorf("%s", f.read("lists"))
		}
		return nil
	})
	if f.read("out") != strings.Replace(want.String(), "v4 true v4", "new true new", 1) {
		t.Errorf("a key that was deleted must keep the last good file:\n%s", f.read("out"))
	}
}
