package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeID(t *testing.T) {
	const one = "11111111-2222-3333-4444-555555555555"
	dir := filepath.Join(t.TempDir(), "a", "b")
	file := filepath.Join(dir, "node-id")
	first, err := NodeID(dir, "")
	if err != nil || !IsNodeID(first) {
		t.Fatalf("got %q, %v", first, err)
	}
	if again, err := NodeID(dir, ""); err != nil || again != first {
		t.Errorf("the id must stay: %s, %s, %v", first, again, err)
	}
	if got, err := NodeID(dir, strings.ToUpper(one)); err != nil || got != one {
		t.Errorf("the configured id wins: %s, %v", got, err)
	}
	if got, err := NodeID(dir, ""); err != nil || got != one {
		t.Errorf("and is kept: %s, %v", got, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}

	if err := os.WriteFile(file, []byte("\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodeID(dir, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged file must be refused by name: %v", err)
	}
	if _, err := NodeID(dir, "nonsense"); err == nil {
		t.Error("a configured id must be a UUID")
	}
	a, errA := NodeID("", "")
	b, errB := NodeID("", "")
	if errA != nil || errB != nil || a == b || !IsNodeID(a) {
		t.Errorf("without a directory ids are new: %s %s", a, b)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodeID(filepath.Join(dir, "file", "data"), ""); err == nil {
		t.Error("a directory that cannot be made is an error")
	}
}
