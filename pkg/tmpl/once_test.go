package tmpl

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/supervise"
)

func TestOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		out := r.template("out", `{{range ls "none"}}{{end}}{{key "a"}}`)
		out.Command = "cp " + r.path("out") + " " + r.path("copy")
		if err := r.run(Config{Templates: []Template{out}, Once: true}); err != nil {
			t.Fatal(err)
		}
		r.wantFile("copy", "1")
	})
}

func TestOnceWithoutTemplates(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		if err := r.run(Config{Once: true}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOnceGivesTheFirstFailingCode(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a, b, c := r.template("a", "a"), r.template("b", "b"), r.template("c", "c")
		a.Command, b.Command, c.Command = "true", "sh -c 'exit 7'", "echo x > "+r.path("ran")+"; exit 8"
		err := r.run(Config{Templates: []Template{a, b, c}, Once: true})
		if cli.Code(err) != 7 || !strings.Contains(err.Error(), "exit code 7") {
			t.Errorf("error %v, code %d", err, cli.Code(err))
		}
		r.wantFile("ran", "x\n")
		r.wantFile("b", "b")
	})
}

func TestOnceTimesOut(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `{{key "a/b"}}`)
		began := time.Now()
		err := r.run(Config{Templates: []Template{out}, Once: true, Timeout: 10 * time.Second})
		if cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "kv.get(a/b) (nothing there yet)") {
			t.Errorf("error %v", err)
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("took %s", d)
		}
		r.consul.Fail(500)
		err = r.run(Config{Templates: []Template{out}, Once: true, Timeout: 10 * time.Second})
		if cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "No cluster leader") {
			t.Errorf("error %v", err)
		}
	})
}

func TestOnceInterrupted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `{{key "a"}}`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := New(r.config(Config{Templates: []Template{out}, Once: true})).Run(ctx)
		if cli.Code(err) != cli.ExitInterrupted {
			t.Errorf("error %v: what was not rendered must not end with 0", err)
		}
	})
}

func TestOnceRendersWhatIsTrueAtItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("b", "old")
		out := r.template("out", `{{key "a"}} {{key "b"}}`)
		time.AfterFunc(time.Minute, func() { r.consul.SetKey("b", "new") })
		time.AfterFunc(time.Hour, func() { r.consul.SetKey("a", "late") })
		if err := r.run(Config{Templates: []Template{out}, Once: true}); err != nil {
			t.Fatal(err)
		}
		r.wantFile("out", "late new")
	})
}

func TestOnceWaitsForAKey(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `{{key "a"}}`)
		time.AfterFunc(10*time.Minute, func() { r.consul.SetKey("a", "late") })
		if err := r.run(Config{Templates: []Template{out}, Once: true}); err != nil {
			t.Fatal(err)
		}
		r.wantFile("out", "late")
	})
}

func TestOnceRejected(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := r.template("out", `bad`)
		out.Check = "grep good {path}"
		err := r.run(Config{Templates: []Template{out}, Once: true})
		if cli.Code(err) != cli.ExitRun || !strings.Contains(err.Error(), "grep good") {
			t.Errorf("error %v", err)
		}
		r.wantFile("out", "-")
	})
}

func TestDryPrintsAndRunsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		stdout, err := os.Create(r.path("stdout"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdout.Close() }()
		out := r.template("out", "v={{key \"a\"}}\n")
		out.Command = "echo ran > " + r.path("ran")
		cfg := Config{Templates: []Template{out}, Once: true, Dry: true, Stdout: stdout, Exec: supervise.Spec{Command: []string{"touch " + r.path("exec")}}}
		if err := r.run(cfg); err != nil {
			t.Fatal(err)
		}
		r.wantFile("stdout", "> "+out.Destination+"\nv=1\n")
		for _, name := range []string{"out", "ran", "exec"} {
			r.wantFile(name, "-")
		}
	})
}

func TestErrorsAtStart(t *testing.T) {
	tests := []struct {
		name string
		make func(r *rig) Template
		code int
		want string
	}{
		{"no source", func(r *rig) Template {
			return Template{Source: r.path("none"), Destination: r.path("out")}
		}, cli.ExitRun, "read template: open"},
		{"syntax", func(r *rig) Template { return r.template("out", "a\n{{range}") }, cli.ExitRun, "out.ctmpl:2:"},
		{"function", func(r *rig) Template { return r.template("out", "{{nope}}") }, cli.ExitRun, `function "nope" not defined`},
		{"vault", func(r *rig) Template { return r.template("out", `{{secret "a"}}`) }, cli.ExitRun, "not supported by muster"},
		{"hopeless", func(r *rig) Template { return r.template("out", `{{index (parseJSON "[]") 3}}`) }, cli.ExitRun, "execute template"},
		{"no destination", func(r *rig) Template {
			out := r.template("out", "x")
			out.Destination = ""
			return out
		}, cli.ExitConfig, "no destination"},
		{"destination below a file", func(r *rig) Template {
			out := r.template("out", "x")
			out.Destination = out.Source + "/out"
			return out
		}, cli.ExitRun, "write "},
		{"destination is a directory", func(r *rig) Template {
			out := r.template("out", "x")
			out.Destination = r.dir
			return out
		}, cli.ExitRun, "write "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				err := r.run(Config{Templates: []Template{tt.make(r)}})
				if cli.Code(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, code %d; want %q, %d", err, cli.Code(err), tt.want, tt.code)
				}
			})
		})
	}
}

func TestCommandTimeout(t *testing.T) {
	r := newRig(t) // in real time: a process runs
	out := r.template("out", "x")
	out.Command, out.CommandTimeout = "sleep 100", 50*time.Millisecond
	err := r.run(Config{Templates: []Template{out}, Once: true})
	var coded *cli.Error
	if !errors.As(err, &coded) || coded.Code != cli.ExitRun || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("error %v", err)
	}
}
