package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/durable"
)

const (
	keptVersion = 1
	// keepEvery is how often results are written at most.
	keepEvery = 5 * time.Second
	// keptPatience is how long an agent has to answer before what was kept is used.
	keptPatience = time.Second
)

// Kept keeps the last good results on disk, for a start without an agent. It is
// read once, and what it held is used only while no agent has given any answer. It
// belongs to one goroutine, and needs no Watcher of its own.
type Kept struct {
	path    string // "": none
	old     map[Query]Result
	savedAt time.Time
	dirty   bool
	due     time.Time // when to save, or to use what is old
}

// keptFile is the file.
type keptFile struct {
	Version int
	Saved   time.Time
	Results []keptResult
}

type keptResult struct {
	Path, Params string
	Index        uint64
	Body         json.RawMessage // null: absent
}

// Keep keeps results in the file at path, which need not exist; "" keeps none.
func Keep(path string) *Kept { return &Kept{path: path} }

// Load reads the file; one that cannot be read is as good as none.
func (k *Kept) Load(now time.Time) error {
	if k.path == "" {
		return nil
	}
	data, err := readOwn(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content keptFile
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err == nil && content.Version != keptVersion {
		err = fmt.Errorf("its version is %d, not %d", content.Version, keptVersion)
	}
	if err != nil {
		return fmt.Errorf("read cache %s: %w", k.path, err)
	}
	old := map[Query]Result{}
	for _, r := range content.Results {
		q := Query{Path: r.Path, Params: r.Params}
		result, err := Restored(q, r.Body, r.Index)
		if err != nil {
			return fmt.Errorf("read cache %s: %w", k.path, err)
		}
		old[q] = result
	}
	k.old, k.savedAt, k.due = old, content.Saved, now.Add(keptPatience)
	return nil
}

// readOwn reads a file that nobody but us and root can have written: what it holds ends
// in files and environments.
func readOwn(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("it belongs to user %d: remove it", sys.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("its mode %04o lets others write it: remove it", info.Mode().Perm())
	}
	return io.ReadAll(f)
}

// save writes results; they may hold secrets, so that only the owner may read them.
func (k *Kept) save(results map[Query]Result, now time.Time) error {
	content := keptFile{Version: keptVersion, Saved: now.UTC()}
	for q, r := range results {
		body, err := r.Body()
		if err != nil {
			return fmt.Errorf("write cache %s: %s: %w", k.path, q, err)
		}
		content.Results = append(content.Results, keptResult{q.Path, q.Params, r.Index, body})
	}
	text, err := json.Marshal(content)
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(k.path), 0o755)
	}
	if err == nil {
		err = durable.WriteFile(k.path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Changed notes new results from an agent: what is old is not needed any more.
func (k *Kept) Changed(now time.Time) {
	k.old = nil
	if k.path != "" && !k.dirty {
		k.dirty, k.due = true, now.Add(keepEvery)
	}
}

// WakeAt is when Due has something to do; zero: never.
func (k *Kept) WakeAt() time.Time {
	if k.dirty || k.old != nil {
		return k.due
	}
	return time.Time{}
}

// Tend saves what is due; half of the results is no use, so complete says whether
// all are there. It says whether Old is to be used now: failing, that no agent
// answers, rather than one being slow.
func (k *Kept) Tend(results map[Query]Result, complete, failing bool, now time.Time) (useOld bool, err error) {
	switch {
	case k.WakeAt().IsZero() || now.Before(k.due):
		return false, nil
	case k.dirty && !complete:
		k.due = now.Add(keepEvery)
		return false, nil
	case k.dirty:
		k.dirty = false
		return false, k.save(results, now)
	}
	k.due = now.Add(keptPatience)
	return failing, nil
}

// Flush saves at the end what is not yet saved.
func (k *Kept) Flush(results map[Query]Result, complete bool) error {
	if !k.dirty || !complete {
		return nil
	}
	k.dirty = false
	return k.save(results, time.Now())
}

// Old is what the file held for q.
func (k *Kept) Old(q Query) (Result, bool) {
	r, ok := k.old[q]
	return r, ok
}

// UsedOld says that some of it was used: whoever asks for more gets it at once. The
// time is when it was saved.
func (k *Kept) UsedOld() time.Time {
	k.due = time.Now()
	return k.savedAt
}

// Forget drops what the file held.
func (k *Kept) Forget() { k.old = nil }
