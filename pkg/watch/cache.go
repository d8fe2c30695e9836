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
	// saveInterval is the least time between two writes.
	saveInterval = 5 * time.Second
	// maxFirstAnswer is how long an agent has to answer before the cache is used.
	maxFirstAnswer = time.Second
	// confirmInterval is how often the file is written again with a new time, while an
	// agent answers and nothing changes.
	confirmInterval = 10 * time.Minute
)

// DefaultMaxAge is how old cached results may be by default: a long weekend without
// servers.
const DefaultMaxAge = 72 * time.Hour

// CacheConfig says where results are stored, and which of them may be used.
type CacheConfig struct {
	Path string // "": no file
	// Address and Datacenter ("": the agent's own) are where the results come from.
	// Results of another agent or datacenter are not used.
	Address    string
	Datacenter string
	MaxAge     time.Duration // older results are not used; 0: any age
}

// Cache stores the last good results on disk, for a start without an agent. It reads the
// file once, and its results are used only until an agent has answered. It belongs
// to one goroutine.
type Cache struct {
	CacheConfig
	loaded  map[Request]Result
	savedAt time.Time
	dirty   bool
	due     time.Time // when to save, or to use what was loaded
	confirm time.Time // when to write the file with a new time; zero: no agent has answered
}

// cacheFile is the file. Saved is when its results were last known to be current.
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

// NewCache makes a Cache with the file at c.Path, which need not exist.
func NewCache(c CacheConfig) *Cache { return &Cache{CacheConfig: c} }

// Load reads the file. The error says why a file is not used: it cannot be read, has
// results of another agent or datacenter, or is too old.
func (c *Cache) Load(now time.Time) error {
	if c.Path == "" {
		return nil
	}
	data, err := readOwned(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content cacheFile
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err == nil {
		err = c.check(content, now)
	}
	if err != nil {
		return fmt.Errorf("read cache %s: %w", c.Path, err)
	}
	loaded := map[Request]Result{}
	for _, r := range content.Results {
		q := Request{Path: r.Path, Params: r.Params}
		result, err := DecodeStored(q, r.Body, r.Index)
		if err != nil {
			return fmt.Errorf("read cache %s: %w", c.Path, err)
		}
		loaded[q] = result
	}
	c.loaded, c.savedAt, c.due = loaded, content.Saved, now.Add(maxFirstAnswer)
	return nil
}

// check returns an error if a file's results must not be used.
func (c *Cache) check(content cacheFile, now time.Time) error {
	age := now.Sub(content.Saved)
	switch {
	case content.Version != cacheVersion:
		return fmt.Errorf("its version is %d, not %d", content.Version, cacheVersion)
	case content.Address != c.Address:
		return fmt.Errorf("it holds data of the agent %s, not of %s: remove it, or keep each agent's in a file of its own", content.Address, c.Address)
	case content.Datacenter != c.Datacenter:
		return fmt.Errorf("it holds data of %s, not of %s: remove it, or keep each datacenter's in a file of its own",
			datacenter(content.Datacenter), datacenter(c.Datacenter))
	case c.MaxAge > 0 && age > c.MaxAge:
		return fmt.Errorf("its data were last true at %s, %s ago, and may be %s old",
			content.Saved.Format(time.RFC3339), age.Round(time.Minute), c.MaxAge)
	}
	return nil
}

func datacenter(name string) string {
	if name == "" {
		return "the agent's own datacenter"
	}
	return "datacenter " + name
}

// readOwned reads a file that only we and root can have written: its content ends in
// files and environments.
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

// save writes results. They may hold secrets: only the owner may read the file.
func (c *Cache) save(results map[Request]Result, now time.Time) error {
	c.confirm = now.Add(confirmInterval)
	content := cacheFile{Version: cacheVersion, Saved: now.UTC(), Address: c.Address, Datacenter: c.Datacenter}
	for q, r := range results {
		body, err := r.Body()
		if err != nil {
			return fmt.Errorf("write cache %s: %s: %w", c.Path, q, err)
		}
		content.Results = append(content.Results, cachedResult{q.Path, q.Params, r.Index, body})
	}
	text, err := json.Marshal(content)
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(c.Path), 0o755)
	}
	if err == nil {
		err = durable.WriteFile(c.Path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Changed notes that an agent has given new results. What was loaded is dropped.
func (c *Cache) Changed(now time.Time) {
	c.loaded = nil
	if c.Path != "" && !c.dirty {
		c.dirty, c.due = true, now.Add(saveInterval)
	}
}

// NextWake is when the owner must call Tend; zero means never.
func (c *Cache) NextWake() time.Time {
	if c.dirty || c.loaded != nil {
		return c.due
	}
	return c.confirm
}

// Tend saves what is due. It saves only complete results. useLoaded says that the caller
// should use Lookup now: failing says that no agent answers, rather than being slow.
func (c *Cache) Tend(results map[Request]Result, complete, failing bool, now time.Time) (useLoaded bool, err error) {
	switch at := c.NextWake(); {
	case at.IsZero() || now.Before(at):
		return false, nil
	case c.dirty && !complete:
		c.due = now.Add(saveInterval)
		return false, nil
	case c.dirty:
		c.dirty = false
		return false, c.save(results, now)
	case c.loaded != nil:
		c.due = now.Add(maxFirstAnswer)
		return failing, nil
	}
	c.confirm = now.Add(confirmInterval)
	if failing || !complete {
		return false, nil
	}
	return false, c.save(results, now)
}

// Flush saves at the end what is not saved yet, or the time up to which it was current.
func (c *Cache) Flush(results map[Request]Result, complete, failing bool) error {
	if !complete || !c.dirty && (c.confirm.IsZero() || failing) {
		return nil
	}
	c.dirty = false
	return c.save(results, time.Now())
}

// Lookup returns the result that the file has for q.
func (c *Cache) Lookup(q Request) (Result, bool) {
	r, ok := c.loaded[q]
	return r, ok
}

// Used notes that results of the file were used: Tend need not wait for the others any
// more. It returns when the results were last known to be current.
func (c *Cache) Used() time.Time {
	c.due = time.Now()
	return c.savedAt
}

// Forget drops the results of the file.
func (c *Cache) Forget() { c.loaded = nil }
