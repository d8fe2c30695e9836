package tmpl

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/watch"
)

// rejecting is a command that notes what it sees in the file and refuses it when
// that is "bad".
func rejecting(r *rig, file string) string {
	return "cat " + r.path(file) + " >> " + r.path("ran") + "; echo >> " + r.path("ran") + "; ! grep -q bad " + r.path(file)
}

func TestFailedCommandRestoresItsFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "good")
		out, other := r.template("out", `{{key "a"}}`), r.template("other", `{{key "a"}}`)
		out.Command = rejecting(r, "out")
		r.start(Config{Templates: []Template{out, other}})
		r.consul.SetKey("a", "bad")
		r.rest()
		r.wantFile("out", "good")
		r.wantFile("other", "bad") // it is not that command's
		r.wantFile("ran", "good\nbad\ngood\n")
		time.Sleep(time.Second) // rendered again, and refused again
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\n")
		time.Sleep(1500 * time.Millisecond)
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\n")
		r.consul.SetKey("a", "better") // new data do not wait
		r.rest()
		r.wantFile("out", "better")
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\nbetter\n")
		time.Sleep(time.Hour)
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\nbetter\n")
	})
}

func TestFailedExecRestoresAllFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "good")
		r.consul.SetKey("b", "1")
		a, b := r.template("a", `{{key "a"}}`), r.template("b", `{{key "b"}}`)
		r.start(Config{Templates: []Template{a, b}, Exec: supervise.Spec{Command: []string{rejecting(r, "a")}}})
		r.settled()
		r.consul.SetKey("a", "bad")
		r.settled()
		r.wantFile("a", "good")
		r.wantFile("ran", "good\nbad\ngood\n")
		if r.lines("command failed, the files before are restored", "retry_in=1s") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		time.Sleep(time.Second)
		r.settled()
		r.wantFile("a", "good")
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\n")

		// New data of another template give what was refused another chance.
		r.consul.SetKey("b", "2")
		r.settled()
		r.wantFile("b", "1")
		r.wantFile("ran", "good\nbad\ngood\nbad\ngood\nbad\ngood\n")
		r.consul.SetKey("a", "better")
		r.settled()
		r.wantFile("a", "better")
		r.wantFile("b", "2")
		if !strings.HasSuffix(r.file("ran"), "good\nbetter\n") {
			t.Errorf("ran %q", r.file("ran"))
		}
		time.Sleep(time.Hour)
		if !strings.HasSuffix(r.file("ran"), "good\nbetter\n") {
			t.Errorf("ran %q", r.file("ran"))
		}
	})
}

// settled gives commands, which run in real time, the time to end.
func (r *rig) settled() {
	r.t.Helper()
	for range 3 {
		r.rest()
	}
}

func TestOnceRollsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "bad")
		out, fresh := r.template("out", `{{key "a"}}`), r.template("fresh", `{{key "a"}}`)
		r.write("out", "good")
		err := r.run(Config{Templates: []Template{out, fresh}, Once: true, Exec: supervise.Spec{
			Command: []string{"cat " + r.path("out") + " >> " + r.path("ran") + "; exit 9"}}})
		if cli.Code(err) != 9 {
			t.Errorf("error %v", err)
		}
		r.wantFile("out", "good")
		r.wantFile("fresh", "bad") // new files stay
		r.wantFile("ran", "badgood")
	})
}

func TestTogetherAllOrNone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for _, k := range []string{"a", "b"} {
			r.consul.SetKey(k, "1")
		}
		a, b := r.template("fa", `{{key "a"}}`), r.template("fb", `{{key "b"}}`)
		a.Together, b.Together = "pair", "pair"
		b.Check = "! grep -q bad {path}"
		a.Command, b.Command = "echo x >> "+r.path("ran"), "echo x >> "+r.path("ran")
		r.start(Config{Templates: []Template{a, b}})
		r.wantFile("ran", "x\n")
		r.consul.SetKey("b", "bad")
		r.rest()
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("fa", "1") // fb's check keeps both
		r.wantFile("fb", "1")
		r.consul.SetKey("b", "2")
		r.rest()
		r.wantFile("fa", "2")
		r.wantFile("fb", "2")
		r.wantFile("ran", "x\nx\n")
		// One whose data is missing keeps the other too.
		r.consul.DeleteKey("b")
		r.rest()
		r.consul.SetKey("a", "3")
		r.rest()
		r.wantFile("fa", "2")
	})
}

func TestTogetherPutsBackWhatWasRenamed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		a, b := r.template("fa", `{{key "a"}}`), r.template("fb", "")
		b.Contents = `{{key "a"}}{{if ne (key "a") "1"}}{{"x" | writeToFile "/dev/null/x" "" "" "0644"}}{{end}}`
		a.Together, b.Together = "pair", "pair"
		r.start(Config{Templates: []Template{a, b}})
		r.wantFile("fb", "1")
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("fa", "1")
		r.wantFile("fb", "1")
		if r.lines("cannot write, trying again") == 0 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestMinInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.start(Config{Templates: []Template{r.template("out", `{{key "a"}}`)}, MinInterval: time.Minute})
		r.consul.SetKey("a", "2")
		time.Sleep(58 * time.Second)
		r.wantFile("out", "1")
		time.Sleep(3 * time.Second)
		r.wantFile("out", "2")
		time.Sleep(time.Hour)
		r.consul.SetKey("a", "3")
		r.rest()
		r.wantFile("out", "3")
	})
}

func TestJitterIsStable(t *testing.T) {
	mine := watch.NodeJitter(time.Hour)
	if mine != watch.NodeJitter(time.Hour) || mine < 0 || mine >= time.Hour || mine == 0 {
		t.Fatalf("share %s", mine)
	}
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.start(Config{Templates: []Template{r.template("out", `{{key "a"}}`)}, Jitter: time.Hour})
		r.wantFile("out", "1") // the first file does not wait
		r.consul.SetKey("a", "2")
		time.Sleep(mine - time.Millisecond)
		r.wantFile("out", "1")
		time.Sleep(time.Second)
		r.wantFile("out", "2")
	})
}

func TestLossesAreWithheld(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for _, id := range []string{"w1", "w2", "w3", "w4"} {
			r.consul.SetService("web", id, "10.0.0.1", 80, "passing")
		}
		few, most := r.template("few", `{{range service "web"}}{{.ID}} {{end}}`), r.template("most", `{{range service "web"}}{{.ID}} {{end}}`)
		few.MinItems, most.MaxShrink = 2, 50
		r.start(Config{Templates: []Template{few, most}})
		r.wantFile("most", "w1 w2 w3 w4 ")
		for _, id := range []string{"w1", "w2", "w3"} {
			r.consul.RemoveService("web", id)
		}
		time.Sleep(time.Second)
		if r.file("few") == "w4 " || r.file("most") == "w4 " {
			t.Fatalf("the loss was rendered: %q, %q", r.file("few"), r.file("most"))
		}
		if r.lines("withheld", "min_items 2") != 1 || r.lines("withheld", "max_shrink 50%") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.tool.Reload() // whoever says so agrees to a loss, but not to less than min_items
		r.rest()
		r.wantFile("most", "w4 ")
		if r.file("few") == "w4 " {
			t.Error("fewer than min_items were rendered")
		}
	})
}

func TestChangedTemplateIsPickedUp(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", "one")
		r.start(Config{Templates: []Template{out}})
		r.write("out.ctmpl", "{{ nonsense")
		time.Sleep(3 * time.Second)
		r.wantFile("out", "one")
		r.write("out.ctmpl", "three")
		time.Sleep(3 * time.Second)
		r.wantFile("out", "three")
		if r.lines("cannot use the template") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestCacheServesAStartWithoutAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.consul.SetService("web", "w1", "10.0.0.1", 80, "passing")
		out := r.template("out", `{{key "a"}} {{range services}}{{range service .Name}}{{.ID}}{{end}}{{end}} {{keyExists "no"}}`)
		cfg := Config{Templates: []Template{out}, Cache: watch.CacheConfig{Path: r.path("cache/data.json")}}
		r.start(cfg)
		r.wantFile("out", "1 w1 false")
		r.cancel()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.ended <- nil
		if info, err := os.Stat(r.path("cache/data.json")); err != nil || info.Mode() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}

		if err := os.Remove(r.path("out")); err != nil {
			t.Fatal(err)
		}
		r.consul.Fail(500)
		r.start(cfg)
		time.Sleep(5 * time.Second)
		r.wantFile("out", "1 w1 false")
		if r.lines("no agent answers: rendering from the data kept on disk") != 1 {
			t.Errorf("log:\n%s", r.log)
		}
		r.consul.SetKey("a", "2")
		r.consul.Fail(0)
		time.Sleep(10 * time.Second)
		r.wantFile("out", "2 w1 false")
	})
}

// Content that a command has refused three times, and whose files were restored each
// time, is tried again on new data and on a reload only; data that make the same text are not new.
func TestKnownBadContentWaitsForNewData(t *testing.T) {
	for _, by := range []string{"the template's command", "-exec"} {
		t.Run(by, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) { knownBadContent(t, r, by == "-exec") })
		})
	}
}

func knownBadContent(t *testing.T, r *rig, byExec bool) {
	r.consul.SetKey("a", "good")
	r.consul.SetKey("b", "1")
	out := r.template("out", `{{key "a"}}{{if key "b"}}{{end}}`)
	cfg := Config{}
	if byExec {
		cfg.Exec.Command = []string{rejecting(r, "out")}
	} else {
		out.Command = rejecting(r, "out")
	}
	cfg.Templates = []Template{out}
	r.start(cfg)
	r.settled()
	wantBad := func(n int) {
		t.Helper()
		for range 300 { // commands run in real time
			time.Sleep(time.Second)
			r.rest()
		}
		if got := strings.Count(r.file("ran"), "bad"); got != n {
			t.Fatalf("it was tried %d times, want %d\nlog:\n%s", got, n, r.log)
		}
	}
	r.consul.SetKey("a", "bad")
	wantBad(3)
	r.wantFile("out", "good")
	r.consul.SetKey("b", "2")
	wantBad(3)
	if got := r.tool.Status().Templates[0]; got.State != StateFailed || got.LastError == "" {
		t.Errorf("status %+v", got)
	}
	r.tool.Reload()
	wantBad(6)
	r.wantFile("out", "good")
	r.consul.SetKey("a", "better")
	r.settled()
	r.wantFile("out", "better")
	wantBad(6)
}
