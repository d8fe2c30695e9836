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
	cacheVersion = 2
	// saveInterval is how often results are written at most.
	saveInterval = 5 * time.Second
	// maxFirstAnswer is how long an agent has to answer before what was kept is used.
	maxFirstAnswer = time.Second
	// confirmInterval is how often the file says anew that its results are those of now,
	// while an agent answers and nothing changes.
	confirmInterval = 10 * time.Minute
)

// DefaultMaxAge is how old kept results may be unless somebody says otherwise: a long
// weekend without servers.
const DefaultMaxAge = 72 * time.Hour

// CacheConfig says where results are kept, and which of them are ours.
type CacheConfig struct {
	Path string // "": nothing is kept
	// Address and Datacenter say whose results they are. Those of another agent, or of
	// another datacenter ("": the agent's own), are not the last that were known here.
	Address    string
	Datacenter string
	MaxAge     time.Duration // older ones are not used; 0: however old
}

// Cache keeps the last good results on disk, for a start without an agent. It is
// read once, and what it held is used only while no agent has given any answer. It
// belongs to one goroutine, and needs no Watcher of its own.
type Cache struct {
	CacheConfig
	loaded  map[Request]Result
	savedAt time.Time
	dirty   bool
	due     time.Time // when to save, or to use what is old
	confirm time.Time // when to say anew of when the results are; zero: no agent has answered
}

// cacheFile is the file. Saved is when its results were known to be true.
type cacheFile struct {
	Version    int
	Saved      time.Time
	Address    string
	Datacenter string
	Results    []cachedResult
}

type cachedResult struct {
	Path, Params string
	Index        uint64
	Body         json.RawMessage // null: absent
}

// NewCache keeps results in the file at k.Path, which need not exist.
func NewCache(k CacheConfig) *Cache { return &Cache{CacheConfig: k} }

// Load reads the file; one that cannot be read, or holds what is not ours or too old, is
// as good as none: the error says why.
func (k *Cache) Load(now time.Time) error {
	if k.Path == "" {
		return nil
	}
	data, err := readOwned(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content cacheFile
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err == nil {
		err = k.check(content, now)
	}
	if err != nil {
		return fmt.Errorf("read cache %s: %w", k.Path, err)
	}
	old := map[Request]Result{}
	for _, r := range content.Results {
		q := Request{Path: r.Path, Params: r.Params}
		result, err := Restored(q, r.Body, r.Index)
		if err != nil {
			return fmt.Errorf("read cache %s: %w", k.Path, err)
		}
		old[q] = result
	}
	k.loaded, k.savedAt, k.due = old, content.Saved, now.Add(maxFirstAnswer)
	return nil
}

// check says why a file's results are not to be used.
func (k *Cache) check(content cacheFile, now time.Time) error {
	age := now.Sub(content.Saved)
	switch {
	case content.Version != cacheVersion:
		return fmt.Errorf("its version is %d, not %d", content.Version, cacheVersion)
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

// readOwned reads a file that nobody but us and root can have written: what it holds ends
// in files and environments.
func readOwned(path string) ([]byte, error) {
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
func (k *Cache) save(results map[Request]Result, now time.Time) error {
	k.confirm = now.Add(confirmInterval)
	content := cacheFile{Version: cacheVersion, Saved: now.UTC(), Address: k.Address, Datacenter: k.Datacenter}
	for q, r := range results {
		body, err := r.Body()
		if err != nil {
			return fmt.Errorf("write cache %s: %s: %w", k.Path, q, err)
		}
		content.Results = append(content.Results, cachedResult{q.Path, q.Params, r.Index, body})
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
func (k *Cache) Changed(now time.Time) {
	k.loaded = nil
	if k.Path != "" && !k.dirty {
		k.dirty, k.due = true, now.Add(saveInterval)
	}
}

// NextWake is when the owner must call Tend; zero means never.
func (k *Cache) NextWake() time.Time {
	if k.dirty || k.loaded != nil {
		return k.due
	}
	return k.confirm
}

// Tend saves what is due; half of the results is no use, so complete says whether
// all are there. It says whether Old is to be used now: failing, that no agent
// answers, rather than one being slow.
func (k *Cache) Tend(results map[Request]Result, complete, failing bool, now time.Time) (useOld bool, err error) {
	switch at := k.NextWake(); {
	case at.IsZero() || now.Before(at):
		return false, nil
	case k.dirty && !complete:
		k.due = now.Add(saveInterval)
		return false, nil
	case k.dirty:
		k.dirty = false
		return false, k.save(results, now)
	case k.loaded != nil:
		k.due = now.Add(maxFirstAnswer)
		return failing, nil
	}
	k.confirm = now.Add(confirmInterval)
	if failing || !complete {
		return false, nil
	}
	return false, k.save(results, now)
}

// Flush saves at the end what is not yet saved, or that it is still true.
func (k *Cache) Flush(results map[Request]Result, complete, failing bool) error {
	if !complete || !k.dirty && (k.confirm.IsZero() || failing) {
		return nil
	}
	k.dirty = false
	return k.save(results, time.Now())
}

// Lookup is what the file held for q.
func (k *Cache) Lookup(q Request) (Result, bool) {
	r, ok := k.loaded[q]
	return r, ok
}

// Used says that some of it was used: whoever asks for more gets it at once. The
// time is when it was known to be true.
func (k *Cache) Used() time.Time {
	k.due = time.Now()
	return k.savedAt
}

// Forget drops what the file held.
func (k *Cache) Forget() { k.loaded = nil }
