package tools

import (
	"os"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// A reboot without a server still renders, from the data kept on disk, and says so.
func TestStartWithoutAgentRendersFromTheCache(t *testing.T) {
	a := harness.Dev(t)
	fill(t, a, 5)
	a.AwaitPutKey("colour", "red")
	f := a.Folder(t)
	f.Write("in", `{{ key "colour" }} `+allServices)
	args := []string{"-template", "in:out", "-cache-file", "cache/data.json"}
	tool := f.Run("tmpl", args...)
	f.AwaitPart("out", "red ", "id4:1004 ")
	want := f.Read("out")
	tool.Signal(syscall.SIGTERM)
	if code := tool.Exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	a.Kill()
	if err := os.Remove(f.File("out")); err != nil {
		t.Fatal(err)
	}
	f.Run("tmpl", args...)
	f.AwaitText("out", want)
	f.AwaitPart("log", "no agent answers: rendering from the data kept on disk")
	a.Start()
	a.AwaitReady()
	a.AwaitPutKey("colour", "blue")
	f.AwaitPart("out", "blue ")
}

// What was known when the end came is kept, even if the first command still ran.
func TestTheEndDuringTheFirstCommandKeepsTheData(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("colour", "red")
	f := a.Folder(t)
	f.Write("in", `{{ key "colour" }}`)
	tool := f.Run("tmpl", "-template", "in:out:echo $$ >started; exec sleep 60", "-cache-file", "data.json")
	f.Pid("started")
	tool.Signal(syscall.SIGTERM)
	if code := tool.Exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	a.Kill()
	if err := os.Remove(f.File("out")); err != nil {
		t.Fatal(err)
	}
	f.Run("tmpl", "-template", "in:out", "-cache-file", "data.json")
	f.AwaitText("out", "red")
}
