package handlers

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Values are stored only with keep_values; changes are detected without them, too.
func TestValuesOnDisk(t *testing.T) {
	for _, keep := range []bool{false, true} {
		dir, id := t.TempDir(), identity{Type: typeKeyPrefix}
		open := func(values bool) *cursor {
			m, err := openCursor(dir, id, values)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := open(true) // as an earlier version left it
		was := []item{{Key: "a", Data: []byte(`"secret-1"`)}, {Key: "b", Data: []byte(`"secret-2"`)}}
		if err := m.save(&delivered{Items: was}); err != nil {
			t.Fatal(err)
		}
		m.close()
		for range 2 { // the file is read, and one that was written so is, too
			m = open(keep)
			text, err := os.ReadFile(m.path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "secret") != keep {
				t.Errorf("keep %v: %s", keep, text)
			}
			m.close()
		}
		now := update{index: 9, items: []item{{Key: "a", Data: []byte(`"secret-1"`)}, {Key: "b", Data: []byte(`"new"`)}}}
		text, err := lines(changes(m.last.Items, m.last.Salt, now))
		want := `{"op":"modify","key":"b","old":null,"new":"new","index":9}` + "\n"
		if keep {
			want = strings.Replace(want, "null", `"secret-2"`, 1)
		}
		if err != nil || string(text) != want {
			t.Errorf("keep %v: %s, %v", keep, text, err)
		}
		if err := m.save(&delivered{Items: now.items}); err != nil {
			t.Fatal(err)
		}
		if text, _ := os.ReadFile(m.path); strings.Contains(string(text), "new") != keep {
			t.Errorf("keep %v: %s", keep, text)
		}
	}
}

// Only cursors of watches that have not run for maxUnused are removed.
func TestUnusedCursorsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	ids := map[string]identity{}
	for _, name := range []string{"stale", "runs", "will run", "lately"} {
		ids[name] = identity{Type: name}
		m, err := openCursor(dir, ids[name], false)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.save(&delivered{}); err != nil {
			t.Fatal(err)
		}
		if name == "runs" {
			defer m.close()
		} else {
			m.close()
		}
		past := time.Now().Add(-maxUnused - time.Hour)
		for _, end := range []string{".json", ".lock"} {
			if end == ".lock" && name == "lately" {
				continue
			}
			if err := os.Chtimes(cursorBase(dir, ids[name])+end, past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
	removeUnused(dir, []identity{ids["will run"]}, slog.New(slog.DiscardHandler))
	for name, id := range ids {
		_, errFile := os.Stat(cursorBase(dir, id) + ".json")
		_, errLock := os.Stat(cursorBase(dir, id) + ".lock")
		if gone := name == "stale"; (errFile != nil) != gone || (errLock != nil) != gone {
			t.Errorf("%s: %v, %v", name, errFile, errLock)
		}
	}
	// It may come again.
	m, err := openCursor(dir, ids["stale"], false)
	if err != nil || m.last != nil {
		t.Fatalf("%v, %v", m, err)
	}
	m.close()
}

// An unusable directory is another error than a fault of the watch.
func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openCursor(filepath.Join(file, "dir"), identity{}, false); !errors.Is(err, errNoCursor) {
		t.Errorf("error %v", err)
	}
}
