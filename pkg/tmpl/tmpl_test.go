package tmpl

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/watch"
)

const passing, critical = "passing", "critical"

func TestNestedLookupsReachAFixedPoint(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetService("web", "web1", "10.0.0.1", 80, passing)
		r.consul.SetService("db", "db1", "10.0.0.2", 5432, passing)
		r.consul.SetKey("name/db", "postgres")
		out := r.template("out", `{{range services}}{{.Name}}{{range service .Name}} {{.Address}}:{{.Port}}{{end}}{{keyOrDefault (print "name/" .Name) ""}}
{{end}}`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "db 10.0.0.2:5432postgres\nweb 10.0.0.1:80\n")
		r.consul.SetService("web", "web2", "10.0.0.3", 80, passing)
		r.rest()
		r.wantFile("out", "db 10.0.0.2:5432postgres\nweb 10.0.0.1:80 10.0.0.3:80\n")
		r.consul.SetService("app", "app1", "10.0.0.4", 8080, passing)
		r.rest()
		r.wantFile("out", "app 10.0.0.4:8080\ndb 10.0.0.2:5432postgres\nweb 10.0.0.1:80 10.0.0.3:80\n")
		if n := r.lines("msg=rendered"); n != 3 {
			t.Errorf("%d renderings, want 3: nothing may be written from a pass that lacks data\n%s", n, r.log)
		}
	})
}

func TestChangesReachTheFileWithoutDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetService("web", "web1", "10.0.0.1", 80, passing)
		out := r.template("out", `{{range service "web"}}{{.ID}} {{end}}`)
		r.start(Config{Templates: []Template{out}})
		time.Sleep(20 * time.Second)
		r.consul.SetService("web", "web1", "10.0.0.1", 80, critical)
		synctest.Wait() // no timer may stand between a change and the file
		r.wantFile("out", "")
	})
}

func TestKeyBlocksUntilItExists(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `v={{key "a/b"}}`)
		r.start(Config{Templates: []Template{out}})
		time.Sleep(time.Hour)
		r.wantFile("out", "-")
		if r.lines("template waits for data", "a/b") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetKey("a/b", "1")
		r.rest()
		r.wantFile("out", "v=1")
		// Once rendered, a deleted key leaves the last good file.
		r.consul.DeleteKey("a/b")
		r.rest()
		r.wantFile("out", "v=1")
	})
}

func TestOnlyAffectedTemplatesRender(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.consul.SetKey("b", "1")
		a, b := r.template("a", `{{key "a"}}`), r.template("b", `{{key "b"}}`)
		r.start(Config{Templates: []Template{a, b}})
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("a", "2")
		r.consul.SetKey("a", "2") // a new index, the same value
		time.Sleep(time.Minute)
		if n := r.lines("file=" + b.Destination); n != 1 {
			t.Errorf("b was rendered %d times\n%s", n, r.log)
		}
	})
}

func TestWhatIsNotUsedIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("which", "a")
		r.consul.SetKey("a", "old")
		out := r.template("out", `{{with key "which"}}{{key .}}{{end}}`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "old")
		r.consul.SetKey("b", "b")
		r.consul.SetKey("which", "b")
		r.rest()
		r.wantFile("out", "b")
		r.consul.SetKey("a", "new")
		r.rest()
		r.consul.SetKey("which", "a")
		r.rest()
		r.wantFile("out", "new")
		if r.lines("rendered", "old") > 0 {
			t.Error("an answer from before was rendered")
		}
	})
}

func TestQuiescence(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "0")
		out := r.template("out", `{{key "a"}}`)
		r.start(Config{Templates: []Template{out}, Wait: watch.Wait{Min: 2 * time.Second, Max: 5 * time.Second}})
		r.wantFile("out", "0") // the first rendering does not wait
		r.consul.SetKey("a", "1")
		time.Sleep(1900 * time.Millisecond)
		r.wantFile("out", "0")
		time.Sleep(200 * time.Millisecond)
		r.wantFile("out", "1")
		// Changes each second put it off, but not past the longest wait.
		for _, v := range []string{"a", "b", "c", "d", "e", "f"} {
			r.wantFile("out", "1")
			r.consul.SetKey("a", v)
			time.Sleep(900 * time.Millisecond)
		}
		r.wantFile("out", "f")
	})
}

func TestOutageKeepsTheFile(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetService("web", "web1", "10.0.0.1", 80, passing)
		out := r.template("out", `{{range service "web"}}{{.ID}}{{end}}`)
		r.start(Config{Templates: []Template{out}})
		r.consul.Fail(500)
		time.Sleep(10 * time.Minute)
		r.wantFile("out", "web1")
		if r.lines("cannot get data") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetService("web", "web2", "10.0.0.2", 80, passing)
		r.consul.Fail(0)
		time.Sleep(2 * time.Minute)
		r.wantFile("out", "web1web2")
		if r.lines("got data again") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestServerUnreachableAtStart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.Fail(503)
		r.consul.SetKey("a", "1")
		out := r.template("out", `{{key "a"}}`)
		r.start(Config{Templates: []Template{out}})
		time.Sleep(time.Hour)
		r.wantFile("out", "-")
		r.consul.Fail(0)
		time.Sleep(2 * time.Minute)
		r.wantFile("out", "1")
	})
}

func TestCheckDecides(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "good")
		out := r.template("out", `{{key "a"}}`)
		out.Check = "grep -q good {path}"
		out.Command = "echo ran >> " + r.path("ran")
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "good")
		r.consul.SetKey("a", "bad")
		time.Sleep(time.Minute)
		r.wantFile("out", "good")
		r.wantFile("ran", "ran\n")
		if r.lines("rejected", "grep -q good") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetKey("a", "good again")
		r.rest()
		r.wantFile("out", "good again")
		r.wantFile("ran", "ran\nran\n")
		left, err := os.ReadDir(r.dir)
		if err != nil || len(left) != 3 { // template, file, ran
			t.Errorf("staged files are left: %v, %v", left, err)
		}
	})
}

func TestCommandsRunOnChangeAndOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		a, b := r.template("a", `{{key "a"}}`), r.template("b", `{{key "a"}}`)
		shared := "echo $(cat " + r.path("a") + " " + r.path("b") + ") >> " + r.path("ran")
		a.Command, b.Command = shared, shared
		r.start(Config{Templates: []Template{a, b}})
		r.wantFile("ran", "11\n")
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("ran", "11\n22\n") // after both files, once for both
		r.cancel()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.ended <- nil
		r.start(Config{Templates: []Template{a, b}}) // nothing changed: no command
		r.wantFile("ran", "11\n22\n")
	})
}

func TestFailingCommandIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		out := r.template("out", `{{key "a"}}`)
		out.Command = "echo x >> " + r.path("ran") + "; test -e " + r.path("fixed")
		r.start(Config{Templates: []Template{out}})
		r.wantFile("ran", "x\n")
		time.Sleep(3500 * time.Millisecond) // after 1 s and 2 s more
		r.wantFile("ran", "x\nx\nx\n")
		r.wantFile("out", "1") // the new file stays
		r.write("fixed", "")
		time.Sleep(4 * time.Second)
		r.wantFile("ran", "x\nx\nx\nx\n")
		time.Sleep(time.Hour)
		r.wantFile("ran", "x\nx\nx\nx\n")
		if r.lines("command failed", "exit code 1") != 3 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestTemplateThatFailsOnData(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", `{"port": 1}`)
		out := r.template("out", `{{with key "a" | parseJSON}}{{.port}}{{end}}`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "1")
		r.consul.SetKey("a", `{"port": `)
		r.rest()
		r.wantFile("out", "1")
		if r.lines("template failed, keeping the last good file", "parseJSON") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetKey("a", `{"port": 2}`)
		r.rest()
		r.wantFile("out", "2")
	})
}

func TestLocalFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `<{{file "`+r.path("in")+`"}}>`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "-")
		r.write("in", "one")
		time.Sleep(3 * time.Second)
		r.wantFile("out", "<one>")
		r.write("in", "three")
		time.Sleep(3 * time.Second)
		r.wantFile("out", "<three>")
	})
}

func TestReloadReadsTemplatesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		out, other := r.template("out", `{{key "a"}}`), r.template("other", `{{key "a"}}`)
		r.start(Config{Templates: []Template{out, other}})
		r.write("out.ctmpl", `new {{key "a"}}`)
		r.tool.Reload()
		r.rest()
		r.wantFile("out", "new 1")
		if n := r.lines("file=" + other.Destination); n != 1 {
			t.Errorf("the template that did not change was rendered %d times", n)
		}
		r.write("out.ctmpl", `{{nope}}`)
		r.tool.Reload()
		r.rest()
		if r.lines("cannot use the template", "nope", "not defined") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("out", "new 2")
	})
}

func TestNodeWithoutANameIsTheAgents(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `{{with node}}{{.Node.Node}}{{end}} {{range nodes}}{{.Node}}{{end}} {{datacenters}}`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "n1 n1 [dc1]")
	})
}

func TestWriteThatFailsLater(t *testing.T) {
	if os.Getuid() == 0 {
		// A directory in the way stops root too.
		t.Log("as root")
	}
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		out := r.template("out", `{{key "a"}}`)
		r.start(Config{Templates: []Template{out}})
		if err := os.Remove(out.Destination); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(out.Destination, 0o755); err != nil {
			t.Fatal(err)
		}
		r.consul.SetKey("a", "2")
		time.Sleep(10 * time.Second)
		if r.lines("cannot write, trying again") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		if err := os.Remove(out.Destination); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.wantFile("out", "2")
	})
}

func TestRetriesCanEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.Fail(500)
		out := r.template("out", `{{key "a"}}`)
		err := r.run(Config{Templates: []Template{out}, Retry: watch.Retry{Attempts: 3}})
		if cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "after 3 attempts: No cluster leader") {
			t.Errorf("error %v", err)
		}
	})
}

func TestParseTemplate(t *testing.T) {
	tests := []struct {
		in   string
		want Template
	}{
		{"a", Template{Source: "a"}},
		{"a:b", Template{Source: "a", Destination: "b"}},
		{"a:b:", Template{Source: "a", Destination: "b"}},
		{"a:b:cmd x", Template{Source: "a", Destination: "b", Command: "cmd x"}},
		{"a:b:curl http://h:80/x", Template{Source: "a", Destination: "b", Command: "curl http://h:80/x"}},
		{`a\:1:b\:2:c\:3`, Template{Source: "a:1", Destination: "b:2", Command: `c\:3`}},
		{`C\x:b`, Template{Source: `C\x`, Destination: "b"}},
	}
	for _, tt := range tests {
		got, err := ParseTemplate(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v", tt.in, got, err)
		}
	}
	for _, bad := range []string{"", ":b", " :b", "a::cmd"} {
		if got, err := ParseTemplate(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
