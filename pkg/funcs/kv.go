package funcs

import (
	"fmt"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// KeyPair is one key of ls or tree.
type KeyPair struct {
	Path  string // the whole key
	Key   string // without the prefix that was asked for
	Value string

	CreateIndex uint64
	ModifyIndex uint64
	LockIndex   uint64
	Flags       uint64
	Session     string
}

func (p *pass) key(arg string) (string, error) {
	if arg == "" {
		return "", nil
	}
	q, _, err := query.ParseFilter(query.KindKey, "kv.get", arg)
	if err != nil {
		return "", err
	}
	pair, ok, err := lookup[*api.KVPair](p, q)
	if err != nil || !ok {
		return "", err
	}
	if pair == nil {
		p.block(q)
		return "", nil
	}
	return string(pair.Value), nil
}

func (p *pass) keyExists(arg string) (bool, error) {
	if arg == "" {
		return false, nil
	}
	q, _, err := query.ParseFilter(query.KindKey, "kv.exists", arg)
	if err != nil {
		return false, err
	}
	pair, _, err := lookup[*api.KVPair](p, q)
	return pair != nil, err
}

func (p *pass) keyOrDefault(arg, def string) (string, error) {
	if arg == "" {
		return def, nil
	}
	q, _, err := query.ParseFilter(query.KindKey, "kv.get", arg)
	if err != nil {
		return "", err
	}
	pair, _, err := lookup[*api.KVPair](p, q)
	if err != nil || pair == nil || len(pair.Value) == 0 {
		return def, err
	}
	return string(pair.Value), nil
}

func (p *pass) ls(arg string) ([]*KeyPair, error)       { return p.list(arg, topLevel, false) }
func (p *pass) safeLs(arg string) ([]*KeyPair, error)   { return p.list(arg, topLevel, true) }
func (p *pass) tree(arg string) ([]*KeyPair, error)     { return p.list(arg, notFolder, false) }
func (p *pass) safeTree(arg string) ([]*KeyPair, error) { return p.list(arg, notFolder, true) }

func topLevel(key string) bool  { return key != "" && !strings.Contains(key, "/") }
func notFolder(key string) bool { return key != "" && !strings.HasSuffix(key, "/") }

// list returns the pairs below a prefix whose relative key is wanted. A safe
// list that comes out empty is not rendered.
func (p *pass) list(arg string, want func(string) bool, safe bool) ([]*KeyPair, error) {
	out := []*KeyPair{}
	q, _, err := query.ParseFilter(query.KindPrefix, "kv.list", arg)
	if err != nil {
		return out, err
	}
	pairs, ok, err := lookup[[]*api.KVPair](p, q)
	if err != nil || !ok {
		return out, err
	}
	for _, kv := range pairs {
		rel := strings.TrimLeft(strings.TrimPrefix(kv.Key, q.Name), "/")
		if !want(rel) {
			continue
		}
		out = append(out, &KeyPair{
			Path: kv.Key, Key: rel, Value: string(kv.Value),
			CreateIndex: kv.CreateIndex, ModifyIndex: kv.ModifyIndex, LockIndex: kv.LockIndex,
			Flags: kv.Flags, Session: kv.Session,
		})
	}
	if safe && len(out) == 0 {
		p.block(q)
	}
	return out, nil
}

// byKey groups pairs by the first segment of their keys. A key without a second
// segment belongs to no group.
func byKey(pairs []*KeyPair) map[string]map[string]*KeyPair {
	groups := map[string]map[string]*KeyPair{}
	for _, pair := range pairs {
		top, rest, _ := strings.Cut(pair.Key, "/")
		if rest == "" {
			continue
		}
		if groups[top] == nil {
			groups[top] = map[string]*KeyPair{}
		}
		below := *pair
		below.Key = rest
		groups[top][rest] = &below
	}
	return groups
}

// explode turns pairs into maps nested by the segments of their keys.
func explode(pairs []*KeyPair) (map[string]any, error) {
	root := map[string]any{}
	for _, pair := range pairs {
		if err := setNested(root, pair.Key, pair.Value); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// explodeMap does the same for a map whose keys have segments.
func explodeMap(m map[string]any) (map[string]any, error) {
	root := map[string]any{}
	for _, key := range sortedKeys(m) {
		if err := setNested(root, key, m[key]); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// setNested sets the value of a key with segments in nested maps, which it creates.
func setNested(root map[string]any, key string, value any) error {
	at := root
	segments := strings.Split(key, "/")
	last := len(segments) - 1
	for _, segment := range segments[:last] {
		switch next := at[segment].(type) {
		case nil:
			below := map[string]any{}
			at[segment] = below
			at = below
		case map[string]any:
			at = next
		default:
			return fmt.Errorf("not a map: %q: %q already has value %q", key, segment, next)
		}
	}
	if segments[last] == "" {
		return nil // a folder
	}
	if below, isMap := at[segments[last]].(map[string]any); isMap {
		return fmt.Errorf("not a value: %q: %q already has %d keys below it", key, segments[last], len(below))
	}
	at[segments[last]] = value
	return nil
}
