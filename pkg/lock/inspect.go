package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// ErrNotHeld says that a lock is not held, or not by that session or token.
var ErrNotHeld = errors.New("lock not held")

// Status is the state of one lock.
type Status struct {
	Prefix  string
	Slots   int            // its limit of holders
	Holders []HolderStatus // by Token, the oldest first
	Waiters []HolderStatus // found by the default name of their session
}

// HolderStatus is a holder of a lock, or a session that waits for it.
type HolderStatus struct {
	Holder
	Key     string `json:",omitempty"`
	Session string
	Token   uint64 `json:",omitempty"`
	Name    string // of the session
	Node    string // where the session was created
	TTL     string `json:",omitempty"`
}

// SessionName is the default name of a session. The waiters of a lock are found by it.
func SessionName(command, prefix string) string {
	return fmt.Sprintf("Lock for '%s' at '%s'", command, prefix)
}

// prefixOf is the prefix in a session's default name, ours or the reference's; "" for
// any other name.
func prefixOf(name string) string {
	_, rest, ok := strings.Cut(name, "ock for '")
	at := strings.LastIndex(rest, "' at '")
	if !ok || at < 0 || !strings.HasSuffix(rest, "'") {
		return ""
	}
	prefix, err := cleanPrefix(rest[at+len("' at '") : len(rest)-1])
	if err != nil {
		return ""
	}
	return prefix
}

// List finds the locks below a prefix that are held or waited for; "" is all. It reads
// only the names of the other keys.
func List(ctx context.Context, c *client.Client, prefix string) ([]Status, error) {
	prefix = strings.TrimLeft(prefix, "/")
	names, _, err := c.KVKeys(ctx, prefix, "", nil)
	if err != nil {
		return nil, fmt.Errorf("list keys below %q: %w", prefix, err)
	}
	var keys []string
	exists := map[string]bool{}
	for _, name := range names {
		exists[name] = true
		if path.Base(name) == lockName {
			keys = append(keys, name)
		}
	}
	locks, err := read(ctx, c, keys)
	if err != nil {
		return nil, err
	}
	held, err := read(ctx, c, slices.DeleteFunc(slotKeys(locks), func(key string) bool { return !exists[key] }))
	if err != nil {
		return nil, err
	}
	return withSessions(ctx, c, append(locks, held...), strings.Trim(prefix, "/"))
}

// Show returns the state of one lock. name is its prefix, its key or the key of a slot.
// The error is ErrNotHeld if nobody holds the lock or waits for it.
func Show(ctx context.Context, c *client.Client, name string) (Status, error) {
	s, _, err := find(ctx, c, name)
	return s, err
}

// find is Show. It also returns the session that the key of a slot names; "" if name is
// no such key.
func find(ctx context.Context, c *client.Client, name string) (s Status, session string, err error) {
	clean, err := cleanPrefix(name)
	if err != nil {
		return Status{}, "", err
	}
	s, err = show(ctx, c, clean)
	dir, base := path.Split(clean)
	if dir = strings.Trim(dir, "/"); dir == "" || !errors.Is(err, ErrNotHeld) {
		return s, "", err
	}
	above, errAbove := show(ctx, c, dir)
	switch {
	case errAbove != nil:
	case base == lockName:
		return above, "", nil
	case slices.ContainsFunc(above.Holders, func(h HolderStatus) bool { return h.Key == clean }):
		return above, base, nil
	}
	return s, "", err
}

func show(ctx context.Context, c *client.Client, prefix string) (Status, error) {
	pairs, err := read(ctx, c, []string{lockKey(prefix)})
	if err != nil {
		return Status{}, err
	}
	held, err := read(ctx, c, slotKeys(pairs))
	if err != nil {
		return Status{}, err
	}
	all, err := withSessions(ctx, c, append(pairs, held...), prefix)
	if err != nil {
		return Status{}, err
	}
	for _, s := range all {
		if s.Prefix == prefix {
			return s, nil
		}
	}
	return Status{}, fmt.Errorf("%w: %s", ErrNotHeld, lockKey(prefix))
}

// maxParallelReads is how many keys are read at a time.
const maxParallelReads = 8

// read reads keys, and omits those that are absent.
func read(ctx context.Context, c *client.Client, keys []string) ([]*api.KVPair, error) {
	pairs, errs := make([]*api.KVPair, len(keys)), make([]error, len(keys))
	var all sync.WaitGroup
	free := make(chan struct{}, maxParallelReads)
	for i, key := range keys {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			if pairs[i], _, errs[i] = c.KVGet(ctx, key, nil); errs[i] != nil {
				errs[i] = fmt.Errorf("read %s: %w", key, errs[i])
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // the others are probably the same
		}
	}
	return slices.DeleteFunc(pairs, func(p *api.KVPair) bool { return p == nil }), nil
}

// slotKeys are the keys of all holders that semaphores list.
func slotKeys(locks []*api.KVPair) (keys []string) {
	for _, p := range locks {
		v, _ := semaphoreOf(p)
		for id := range v.Holders {
			keys = append(keys, path.Dir(p.Key)+"/"+id)
		}
	}
	return keys
}

// semaphoreOf decodes a semaphore's key; it returns false for any other key.
func semaphoreOf(p *api.KVPair) (v semaphoreValue, ok bool) {
	ok = path.Base(p.Key) == lockName && p.Flags == semaphoreFlags && json.Unmarshal(p.Value, &v) == nil
	return v, ok
}

func withSessions(ctx context.Context, c *client.Client, pairs []*api.KVPair, below string) ([]Status, error) {
	sessions, _, err := c.SessionList(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return statuses(pairs, sessions, below), nil
}

func statuses(pairs []*api.KVPair, sessions []*api.Session, below string) []Status {
	byID := map[string]*api.Session{}
	for _, s := range sessions {
		byID[s.ID] = s
	}
	found := map[string]*Status{}
	get := func(prefix string) *Status {
		if found[prefix] == nil {
			found[prefix] = &Status{Prefix: prefix, Slots: 1, Holders: []HolderStatus{}, Waiters: []HolderStatus{}}
		}
		return found[prefix]
	}
	holds := map[string]bool{}
	add := func(p *api.KVPair) {
		s := get(path.Dir(p.Key))
		h := HolderStatus{Holder: decodeHolder(p.Value), Key: p.Key, Session: p.Session, Token: p.ModifyIndex}
		if session := byID[p.Session]; session != nil {
			h.Name, h.Node, h.TTL = session.Name, session.Node, session.TTL
		}
		s.Holders, holds[p.Session] = append(s.Holders, h), true
	}
	semaphores := map[string]semaphoreValue{} // by prefix
	for _, p := range pairs {
		if path.Base(p.Key) == lockName && p.Flags == lockFlags && p.Session != "" {
			add(p)
		}
		if v, ok := semaphoreOf(p); ok {
			semaphores[path.Dir(p.Key)] = v
		}
	}
	for _, p := range pairs {
		if v, ok := semaphores[path.Dir(p.Key)]; ok && p.Session != "" && path.Base(p.Key) == p.Session && v.Holders[p.Session] {
			add(p)
		}
	}
	for _, session := range sessions {
		prefix := prefixOf(session.Name)
		if prefix == "" || holds[session.ID] || prefix != below && below != "" && !strings.HasPrefix(prefix, below) {
			continue
		}
		s := get(prefix)
		s.Waiters = append(s.Waiters, HolderStatus{Session: session.ID, Name: session.Name, Node: session.Node, TTL: session.TTL})
	}
	out := []Status{}
	for _, s := range found {
		if v, ok := semaphores[s.Prefix]; ok { // also if nobody holds it
			s.Slots = v.Limit
		}
		slices.SortFunc(s.Holders, func(a, b HolderStatus) int { return int(int64(a.Token - b.Token)) })
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Prefix, b.Prefix) })
	return out
}

// Break destroys the sessions of a lock's holders: of all, or only of those with the given
// session or token. Their children have the lock-delay to end. name is as for Show; the
// key of a slot means its holder alone. It returns the holders that it has removed.
func Break(ctx context.Context, c *client.Client, name, session string, token uint64) ([]HolderStatus, error) {
	s, slot, err := find(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if session == "" {
		session = slot
	}
	broken := []HolderStatus{}
	for _, h := range s.Holders {
		if session != "" && h.Session != session || token != 0 && h.Token != token {
			continue
		}
		if err := c.SessionDestroy(ctx, h.Session, nil); err != nil {
			return broken, fmt.Errorf("destroy session %s: %w", h.Session, err)
		}
		broken = append(broken, h)
	}
	if len(broken) == 0 {
		return broken, fmt.Errorf("%w by that session or token: %s", ErrNotHeld, s.Prefix)
	}
	return broken, nil
}

// Verify reads consistently whether the acquisition with that token, and that session if it
// is not "", holds the lock; key is the lock's key or prefix. The error is ErrNotHeld if it
// does not.
func Verify(ctx context.Context, c *client.Client, key, session string, token uint64) error {
	consistent := &client.Options{Consistent: true}
	pair, _, err := c.KVGet(ctx, key, consistent)
	if prefix, errPrefix := cleanPrefix(key); err == nil && pair == nil && errPrefix == nil && path.Base(key) != lockName {
		key = lockKey(prefix)
		pair, _, err = c.KVGet(ctx, key, consistent)
	}
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", key, err)
	case pair == nil || pair.Session == "":
		return fmt.Errorf("%w: nobody holds %s", ErrNotHeld, key)
	case session != "" && pair.Session != session:
		return fmt.Errorf("%w: %s is held by session %s", ErrNotHeld, key, pair.Session)
	case pair.ModifyIndex < token || session == "" && pair.ModifyIndex != token:
		return fmt.Errorf("%w: %s is held since index %d, not %d", ErrNotHeld, key, pair.ModifyIndex, token)
	}
	return nil
}

// LeaderPrefix is the prefix of the lock of an election.
func LeaderPrefix(name string) string { return "leader/" + name }
