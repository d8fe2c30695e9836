package tmpl

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

// What a template writes beside its text is its output too: it follows the data when
// the text stays, has the command run, and comes back when the command refuses it.
func TestFilesBesideFollowTheData(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("cert", "one")
		out := r.template("out", `{{key "cert" | writeToFile "`+r.path("cert")+`" "" "" "0600"}}fixed`)
		out.Command = rejecting(r, "cert")
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "fixed")
		r.wantFile("cert", "one")
		r.consul.SetKey("cert", "two")
		r.rest()
		r.wantFile("cert", "two")
		r.wantFile("ran", "one\ntwo\n")
		r.consul.SetKey("cert", "bad")
		r.rest()
		r.wantFile("cert", "two")
		if info, err := os.Stat(r.path("cert")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		r.consul.SetKey("cert", "three")
		r.rest()
		r.wantFile("cert", "three")
		if n := strings.Count(r.file("ran"), "three"); n != 1 {
			t.Errorf("the command ran %d times: %q", n, r.file("ran"))
		}
		time.Sleep(time.Hour)
		if n := strings.Count(r.file("ran"), "three"); n != 1 {
			t.Errorf("the command ran %d times: %q", n, r.file("ran"))
		}
	})
}

// A check refuses all of an output, and other files beside are another output.
func TestCheckIsForFilesBesideToo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.consul.SetKey("b", "1")
		out := r.template("out", `{{key "a"}}{{key "b" | writeToFile "`+r.path("beside")+`" "" "" ""}}`)
		out.Check = "echo x >>" + r.path("checks") + "; ! grep -q bad {path}"
		r.start(Config{Templates: []Template{out}})
		r.consul.SetKey("a", "bad")
		r.rest()
		r.wantFile("checks", "x\nx\n")
		r.consul.SetKey("b", "2")
		r.rest()
		r.wantFile("checks", "x\nx\nx\n")
		r.wantFile("out", "1")
		r.wantFile("beside", "1")
		r.consul.SetKey("a", "3")
		r.rest()
		r.wantFile("out", "3")
		r.wantFile("beside", "2")
	})
}

// A line is added once for each change: not for a check that could not run, a command
// that fails, a restart of tmpl, or data that make the same output.
func TestAppendOncePerChange(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.consul.SetKey("b", "1")
		out := r.template("out", `{{key "a"}}{{if key "b"}}{{end}}{{key "a" | writeToFile "`+r.path("log")+`" "" "" "" "append,newline"}}`)
		out.Command = "! grep -q bad " + r.path("out")
		cfg := Config{Templates: []Template{out}}
		r.start(cfg)
		r.consul.SetKey("b", "2")
		r.rest()
		r.wantFile("log", "1\n")
		r.consul.SetKey("a", "bad")
		r.rest()
		time.Sleep(time.Hour) // it is tried again meanwhile
		r.wantFile("log", "1\nbad\n")
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("log", "1\nbad\n2\n")

		r.cancel()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.ended <- nil
		r.start(cfg)
		r.wantFile("log", "1\nbad\n2\n")
		r.consul.SetKey("a", "1")
		r.rest()
		r.wantFile("log", "1\nbad\n2\n1\n")
	})
}

// One path that is written several times in one pass is one file.
func TestSeveralWritesToOneFile(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		at := r.path("beside")
		out := r.template("out", `{{writeToFile "`+at+`" "" "" "" "gone"}}{{writeToFile "`+at+`" "" "" "" "a"}}`+
			`{{key "a" | writeToFile "`+r.dir+`/./beside" "" "" "" "append"}}{{writeToFile "`+r.path("out")+`" "" "" "" "own"}}text`)
		out.Command = "echo x >>" + r.path("ran")
		r.start(Config{Templates: []Template{out}})
		r.wantFile("out", "text")
		r.wantFile("beside", "a1")
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("beside", "a2")
		r.wantFile("ran", "x\nx\n")
	})
}

// The bodies of ranges are not executed again where nothing changed; one that writes
// files is no such body, so that none of its files is forgotten.
func TestRangesThatWriteFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for _, k := range []string{"c/a", "c/b", "c/c"} {
			r.consul.SetKey(k, "1")
		}
		out := r.template("out", `{{range ls "c"}}{{.Value | writeToFile (print "`+r.dir+`/f" .Key) "" "" ""}}{{.Key | writeToFile "`+r.path("log")+`" "" "" "" "append"}}{{end}}`)
		r.start(Config{Templates: []Template{out}})
		r.wantFile("log", "abc")
		for _, name := range []string{"fa", "fb", "fc"} {
			if err := os.Remove(r.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		r.consul.SetKey("c/b", "2")
		r.rest()
		r.wantFile("fa", "1")
		r.wantFile("fb", "2")
		r.wantFile("fc", "1")
		r.wantFile("log", "abcabc")
	})
}

// What goes to a pipe goes there once for each change.
func TestStreamOncePerChange(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.consul.SetKey("b", "1")
		file, err := os.Create(r.path("behind"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		out := r.template("out", `{{key "a"}}{{if key "b"}}{{end}} `)
		out.Destination = r.path("link")
		if err := os.Symlink("/dev/fd/"+strconv.Itoa(int(file.Fd())), out.Destination); err != nil {
			t.Fatal(err)
		}
		out.Command = "echo x >>" + r.path("ran")
		r.start(Config{Templates: []Template{out}})
		r.consul.SetKey("b", "2")
		r.rest()
		r.consul.SetKey("a", "2")
		r.rest()
		r.wantFile("behind", "1 2 ")
		r.wantFile("ran", "x\nx\n")
	})
}

// Whose reader has gone for good ends, as any program in a pipeline does.
func TestEndsWithTheReaderOfItsOutput(t *testing.T) {
	for _, once := range []bool{false, true} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.consul.SetKey("a", "1")
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			_ = reader.Close()
			out := r.template("out", `{{key "a"}}`)
			out.Destination = "/dev/fd/" + strconv.Itoa(int(writer.Fd()))
			if code := cli.Code(r.run(Config{Templates: []Template{out}, Once: once})); code != 128+int(syscall.SIGPIPE) {
				t.Errorf("once %v: code %d\nlog:\n%s", once, code, r.log)
			}
		})
	}
}

// A check that could not run is tried again on the same content; one that has rejected it is not.
func TestCheckThatCannotRunIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		out := r.template("out", `{{key "a"}}`)
		out.Check = r.path("check") + " {path}"
		r.start(Config{Templates: []Template{out}}) // the first file: no reason to end either
		r.wantFile("out", "-")
		if r.lines("the check could not run, trying again", "retry_in=1s") != 1 {
			t.Fatalf("log:\n%s", r.log)
		}
		r.write("check", "#!/bin/sh\necho x >>"+r.path("checks")+"\n! grep -q bad $1\n")
		if err := os.Chmod(r.path("check"), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		r.wantFile("out", "1")
		r.consul.SetKey("a", "bad")
		r.rest()
		time.Sleep(time.Hour)
		r.wantFile("out", "1")
		r.wantFile("checks", "x\nx\n")
	})
}
