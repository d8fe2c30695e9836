package tools

import (
	"os"
	"syscall"
	"testing"
)

// A reboot without a server still renders, from the data kept on disk, and says so.
func TestStartWithoutAgentRendersFromTheCache(t *testing.T) {
	a := dev(t)
	fill(t, a, 5)
	a.put("colour", "red")
	f := work(t, a)
	f.write("in", `{{ key "colour" }} `+allServices)
	args := []string{"-template", "in:out", "-cache-file", "cache/data.json"}
	tool := f.tmpl(args...)
	f.awaitPart("out", "red ", "id4:1004 ")
	want := f.read("out")
	tool.signal(syscall.SIGTERM)
	if code := tool.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	a.kill()
	if err := os.Remove(f.file("out")); err != nil {
		t.Fatal(err)
	}
	f.tmpl(args...)
	f.awaitText("out", want)
	f.awaitPart("log", "no agent answers: rendering from the data kept on disk")
	a.start()
	a.awaitReady()
	a.put("colour", "blue")
	f.awaitPart("out", "blue ")
}
