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

// Values lie on disk only where that is asked for; what changed is known all the same.
func TestValuesOnDisk(t *testing.T) {
	for _, keep := range []bool{false, true} {
		dir, id := t.TempDir(), identity{Type: typeKeyPrefix}
		open := func(values bool) *memory {
			m, err := openMemory(dir, id, values)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := open(true) // as an earlier version left it
		was := []item{{Key: "a", Data: []byte(`"secret-1"`)}, {Key: "b", Data: []byte(`"secret-2"`)}}
		if err := m.keep(&delivered{Items: was}); err != nil {
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
		now := view{index: 9, items: []item{{Key: "a", Data: []byte(`"secret-1"`)}, {Key: "b", Data: []byte(`"new"`)}}}
		text, err := lines(changes(m.last.Items, m.last.Salt, now))
		want := `{"op":"modify","key":"b","old":null,"new":"new","index":9}` + "\n"
		if keep {
			want = strings.Replace(want, "null", `"secret-2"`, 1)
		}
		if err != nil || string(text) != want {
			t.Errorf("keep %v: %s, %v", keep, text, err)
		}
		if err := m.keep(&delivered{Items: now.items}); err != nil {
			t.Fatal(err)
		}
		if text, _ := os.ReadFile(m.path); strings.Contains(string(text), "new") != keep {
			t.Errorf("keep %v: %s", keep, text)
		}
	}
}

// What nobody has run for long is forgotten; what runs, will run, or ran lately is not.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	ids := map[string]identity{}
	for _, name := range []string{"stale", "runs", "will run", "lately"} {
		ids[name] = identity{Type: name}
		m, err := openMemory(dir, ids[name], false)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.keep(&delivered{}); err != nil {
			t.Fatal(err)
		}
		if name == "runs" {
			defer m.close()
		} else {
			m.close()
		}
		past := time.Now().Add(-forgetAfter - time.Hour)
		for _, end := range []string{".json", ".lock"} {
			if end == ".lock" && name == "lately" {
				continue
			}
			if err := os.Chtimes(memoryBase(dir, ids[name])+end, past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
	forget(dir, []identity{ids["will run"]}, slog.New(slog.DiscardHandler))
	for name, id := range ids {
		_, errFile := os.Stat(memoryBase(dir, id) + ".json")
		_, errLock := os.Stat(memoryBase(dir, id) + ".lock")
		if gone := name == "stale"; (errFile != nil) != gone || (errLock != nil) != gone {
			t.Errorf("%s: %v, %v", name, errFile, errLock)
		}
	}
	// It may come again.
	m, err := openMemory(dir, ids["stale"], false)
	if err != nil || m.last != nil {
		t.Fatalf("%v, %v", m, err)
	}
	m.close()
}

// Where nothing can be written is told from what is wrong with the watch.
func TestNoMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openMemory(filepath.Join(file, "dir"), identity{}, false); !errors.Is(err, errNoMemory) {
		t.Errorf("error %v", err)
	}
}
