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
	keptVersion = 2
	// keepEvery is how often results are written at most.
	keepEvery = 5 * time.Second
	// keptPatience is how long an agent has to answer before what was kept is used.
	keptPatience = time.Second
	// confirmEvery is how often the file says anew that its results are those of now,
	// while an agent answers and nothing changes.
	confirmEvery = 10 * time.Minute
)

// DefaultMaxAge is how old kept results may be unless somebody says otherwise: a long
// weekend without servers.
const DefaultMaxAge = 72 * time.Hour

// Keeping says where results are kept, and which of them are ours.
type Keeping struct {
	Path string // "": nothing is kept
	// Address and Datacenter say whose results they are. Those of another agent, or of
	// another datacenter ("": the agent's own), are not the last that were known here.
	Address    string
	Datacenter string
	MaxAge     time.Duration // older ones are not used; 0: however old
}

// Kept keeps the last good results on disk, for a start without an agent. It is
// read once, and what it held is used only while no agent has given any answer. It
// belongs to one goroutine, and needs no Watcher of its own.
type Kept struct {
	Keeping
	old     map[Query]Result
	savedAt time.Time
	dirty   bool
	due     time.Time // when to save, or to use what is old
	confirm time.Time // when to say anew of when the results are; zero: no agent has answered
}

// keptFile is the file. Saved is when its results were known to be true.
type keptFile struct {
	Version    int
	Saved      time.Time
	Address    string
	Datacenter string
	Results    []keptResult
}

type keptResult struct {
	Path, Params string
	Index        uint64
	Body         json.RawMessage // null: absent
}

// Keep keeps results in the file at k.Path, which need not exist.
func Keep(k Keeping) *Kept { return &Kept{Keeping: k} }

// Load reads the file; one that cannot be read, or holds what is not ours or too old, is
// as good as none: the error says why.
func (k *Kept) Load(now time.Time) error {
	if k.Path == "" {
		return nil
	}
	data, err := readOwn(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content keptFile
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err == nil {
		err = k.fits(content, now)
	}
	if err != nil {
		return fmt.Errorf("read cache %s: %w", k.Path, err)
	}
	old := map[Query]Result{}
	for _, r := range content.Results {
		q := Query{Path: r.Path, Params: r.Params}
		result, err := Restored(q, r.Body, r.Index)
		if err != nil {
			return fmt.Errorf("read cache %s: %w", k.Path, err)
		}
		old[q] = result
	}
	k.old, k.savedAt, k.due = old, content.Saved, now.Add(keptPatience)
	return nil
}

// fits says why a file's results are not to be used.
func (k *Kept) fits(content keptFile, now time.Time) error {
	age := now.Sub(content.Saved)
	switch {
	case content.Version != keptVersion:
		return fmt.Errorf("its version is %d, not %d", content.Version, keptVersion)
	case content.Address != k.Address:
		return fmt.Errorf("it holds data of the agent %s, not of %s: remove it, or keep each agent's in a file of its own", content.Address, k.Address)
	case content.Datacenter != k.Datacenter:
		return fmt.Errorf("it holds data of %s, not of %s: remove it, or keep each datacenter's in a file of its own",
			datacenter(content.Datacenter), datacenter(k.Datacenter))
	case k.MaxAge > 0 && age > k.MaxAge:
		return fmt.Errorf("its data were last true at %s, %s ago, and may be %s old",
			content.Saved.Format(time.RFC3339), age.Round(time.Minute), k.MaxAge)
	}
	return nil
}

func datacenter(name string) string {
	if name == "" {
		return "the agent's own datacenter"
	}
	return "datacenter " + name
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
	k.confirm = now.Add(confirmEvery)
	content := keptFile{Version: keptVersion, Saved: now.UTC(), Address: k.Address, Datacenter: k.Datacenter}
	for q, r := range results {
		body, err := r.Body()
		if err != nil {
			return fmt.Errorf("write cache %s: %s: %w", k.Path, q, err)
		}
		content.Results = append(content.Results, keptResult{q.Path, q.Params, r.Index, body})
	}
	text, err := json.Marshal(content)
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(k.Path), 0o755)
	}
	if err == nil {
		err = durable.WriteFile(k.Path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Changed notes new results from an agent: what is old is not needed any more.
func (k *Kept) Changed(now time.Time) {
	k.old = nil
	if k.Path != "" && !k.dirty {
		k.dirty, k.due = true, now.Add(keepEvery)
	}
}

// WakeAt is when the owner must call Tend; zero means never.
func (k *Kept) WakeAt() time.Time {
	if k.dirty || k.old != nil {
		return k.due
	}
	return k.confirm
}

// Tend saves what is due; half of the results is no use, so complete says whether
// all are there. It says whether Old is to be used now: failing, that no agent
// answers, rather than one being slow.
func (k *Kept) Tend(results map[Query]Result, complete, failing bool, now time.Time) (useOld bool, err error) {
	switch at := k.WakeAt(); {
	case at.IsZero() || now.Before(at):
		return false, nil
	case k.dirty && !complete:
		k.due = now.Add(keepEvery)
		return false, nil
	case k.dirty:
		k.dirty = false
		return false, k.save(results, now)
	case k.old != nil:
		k.due = now.Add(keptPatience)
		return failing, nil
	}
	k.confirm = now.Add(confirmEvery)
	if failing || !complete {
		return false, nil
	}
	return false, k.save(results, now)
}

// Flush saves at the end what is not yet saved, or that it is still true.
func (k *Kept) Flush(results map[Query]Result, complete, failing bool) error {
	if !complete || !k.dirty && (k.confirm.IsZero() || failing) {
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
// time is when it was known to be true.
func (k *Kept) UsedOld() time.Time {
	k.due = time.Now()
	return k.savedAt
}

// Forget drops what the file held.
func (k *Kept) Forget() { k.old = nil }
