// Package query parses the queries of templates and configurations for the catalog and
// the key/value store: "path@dc", "tag.name~near".
package query

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Kind is what a Query asks for. It determines the type of the answer.
type Kind string

// The kinds, each with the type of its answer. The
// texts are those of consul-template's messages.
const (
	KindKey         Kind = "kv.get"              // *api.KVPair, nil: there is no such key
	KindPrefix      Kind = "kv.list"             // []*api.KVPair
	KindService     Kind = "health.service"      // []*api.CheckServiceNode
	KindServices    Kind = "catalog.services"    // map[string][]string
	KindNode        Kind = "catalog.node"        // *api.NodeServices, nil: no such node
	KindNodes       Kind = "catalog.nodes"       // []*api.Node
	KindDatacenters Kind = "catalog.datacenters" // []string
	KindFile        Kind = "file"                // string
)

// Query is a parsed query. Two queries for the same are equal, so a Query can be a map
// key.
type Query struct {
	Kind Kind
	// Name is the key, the prefix, the service, the node ("" is the agent's
	// own) or the file's path.
	Name       string
	Tag        string // service: only instances with this tag
	Datacenter string // "" is the agent's own
	Near       string // service, nodes: sort by distance from this node
	// Passing is set for services of which only healthy instances are wanted;
	// otherwise the query is for all, and the template filters them.
	Passing bool
	// IgnoreFailing leaves out datacenters that do not answer.
	IgnoreFailing bool
	// Params holds ns, partition, peer and sameness-group, URL-encoded in
	// sorted order; muster's agent ignores them.
	Params string
}

// String shows the query as consul-template's log lines do.
func (q Query) String() string {
	var b strings.Builder
	b.WriteString(string(q.Kind))
	b.WriteByte('(')
	if q.Tag != "" {
		b.WriteString(q.Tag + ".")
	}
	b.WriteString(q.Name)
	for _, part := range []struct{ mark, text string }{{"?", q.Params}, {"@", q.Datacenter}, {"~", q.Near}} {
		if part.text != "" {
			b.WriteString(part.mark + part.text)
		}
	}
	switch {
	case q.Kind == KindService && q.Passing:
		b.WriteString("|passing")
	case q.Kind == KindService:
		b.WriteString("|any")
	}
	b.WriteByte(')')
	return b.String()
}

// Path is the path of the HTTP API for q, after the redirects of a server: in a key, "//",
// "." and ".." are resolved, so app//port is app/port. ok is false where q.Name has no
// path: a key above the store (../x), the store itself as a key, a service or node whose
// name a server would resolve to another. Nothing has such a name. (api.CleanKey, for
// calls of the client, keeps every key within the store instead.)
func (q Query) Path() (p string, ok bool) {
	switch q.Kind {
	case KindKey:
		p, ok = keyPath(q.Name)
		return p, ok && p != kvRoot
	case KindPrefix:
		return keyPath(q.Name)
	case KindService:
		return namePath("/v1/health/service/", q.Name)
	case KindServices:
		return "/v1/catalog/services", true
	case KindNode:
		return namePath("/v1/catalog/node/", q.Name)
	case KindNodes:
		return "/v1/catalog/nodes", true
	case KindDatacenters:
		return "/v1/catalog/datacenters", true
	default:
		return "", false
	}
}

const kvRoot = "/v1/kv/"

func keyPath(key string) (string, bool) {
	if plain(key) {
		return kvRoot + key, true
	}
	p := resolved(kvRoot + key)
	if p+"/" == kvRoot {
		p = kvRoot
	}
	return p, strings.HasPrefix(p, kvRoot)
}

func namePath(root, name string) (string, bool) {
	p := root + name
	return p, plain(name) || resolved(p) == p
}

// plain reports whether a name has nothing to resolve, which is nearly always true.
func plain(name string) bool {
	return name == "" || name[0] != '/' && name[0] != '.' && !strings.Contains(name, "//") && !strings.Contains(name, "/.")
}

// resolved is the path to which agents, ours and the reference's, redirect a request.
func resolved(p string) string {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// Parse reads arg by the grammar of kind. The health filter of a service only decides
// on Passing.
func Parse(kind Kind, arg string) (Query, error) {
	q, _, err := ParseFilter(kind, string(kind), arg)
	return q, err
}

// ParseFilter is Parse with a label of its own in front of errors. The health filter
// is returned beside the query: one query may serve several.
func ParseFilter(kind Kind, label, arg string) (Query, []string, error) {
	q := Query{Kind: kind}
	if kind == KindFile {
		if arg == "" {
			return q, nil, invalid(label, arg)
		}
		q.Name = arg
		return q, nil, nil
	}
	rest, filters, err := cutFilter(kind, label, arg)
	if err != nil {
		return q, nil, err
	}
	if kind == KindService || kind == KindNodes {
		if rest, q.Near, err = cutNear(rest); err != nil {
			return q, nil, invalid(label, arg)
		}
	}
	if rest, q.Datacenter, err = cutDatacenter(rest); err != nil {
		return q, nil, invalid(label, arg)
	}
	if rest, q.Params, err = cutParams(kind, label, rest); err != nil {
		return q, nil, err
	}
	if !q.setName(rest) {
		return q, nil, invalid(label, arg)
	}
	q.Passing = kind == KindService && len(filters) == 1 && filters[0] == "passing"
	return q, filters, nil
}

// setName sets Name and Tag from an argument without its suffixes. It returns false if
// that is invalid.
func (q *Query) setName(s string) bool {
	switch q.Kind {
	case KindKey:
		q.Name = strings.TrimPrefix(s, "/")
		return q.Name != "" && !strings.Contains(s, "@")
	case KindPrefix:
		q.Name = strings.TrimPrefix(s, "/")
		return !strings.Contains(s, "@")
	case KindService: // a catalog accepts any name: an odd one must not fail a template
		q.Name = s
		if i := strings.LastIndexByte(s, '.'); i >= 0 {
			q.Tag, q.Name = s[:i], s[i+1:]
			if q.Tag == "" {
				return false
			}
		}
		return q.Name != ""
	case KindNode:
		q.Name = s
		return true
	default:
		return s == ""
	}
}

// cutFilter splits the health filter off a service argument; without one only
// passing instances are wanted.
func cutFilter(kind Kind, label, arg string) (rest string, filters []string, err error) {
	if kind != KindService {
		return arg, nil, nil
	}
	rest, list, found := strings.Cut(arg, "|")
	if !found {
		return rest, []string{"passing"}, nil
	}
	if list == "" || strings.Contains(list, "|") {
		return "", nil, invalid(label, arg)
	}
	for f := range strings.SplitSeq(list, ",") {
		switch f = strings.TrimSpace(f); f {
		case "":
		case "any", "passing", "warning", "critical", "maintenance":
			filters = append(filters, f)
		default:
			return "", nil, fmt.Errorf("%s: invalid filter: %q in %q", label, f, arg)
		}
	}
	if len(filters) == 0 {
		return "", nil, invalid(label, arg)
	}
	return rest, filters, nil
}

// cutNear splits the name of a node off s. A name may have any characters but those of the
// grammar.
func cutNear(s string) (rest, node string, err error) {
	i := strings.LastIndexByte(s, '~')
	if i < 0 {
		return s, "", nil
	}
	node = s[i+1:]
	if node == "" || strings.ContainsAny(node, "@?|") {
		return "", "", fmt.Errorf("invalid %q", s[i:])
	}
	return s[:i], node, nil
}

// cutDatacenter splits the name of a datacenter off s.
func cutDatacenter(s string) (rest, dc string, err error) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, "", nil
	}
	dc = s[i+1:]
	if dc == "" || !Word(dc, ".-") {
		return "", "", fmt.Errorf("invalid %q", s[i:])
	}
	return s[:i], dc, nil
}

// cutParams splits the ?query part off s. A key may contain question marks: there, only
// what follows the last one counts, and only if it consists of known parameters.
func cutParams(kind Kind, label, s string) (rest, encoded string, err error) {
	i := strings.Index(s, "?")
	isKey := kind == KindKey || kind == KindPrefix
	if isKey {
		i = strings.LastIndex(s, "?")
	}
	if i < 0 {
		return s, "", nil
	}
	encoded, err = params(s[i+1:])
	switch {
	case err == nil && (encoded != "" || !isKey):
		return s[:i], encoded, nil
	case isKey:
		return s, "", nil
	}
	return "", "", fmt.Errorf("%s: invalid query: %q: %w", label, s[i+1:], err)
}

// params checks the ?query part and brings it into sorted order.
func params(raw string) (string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "", err
	}
	for name := range values {
		switch name {
		case "ns", "peer", "partition", "sameness-group":
		default:
			return "", fmt.Errorf("unknown parameter %q, known are ns, partition, peer, sameness-group", name)
		}
	}
	return values.Encode(), nil
}

// Word reports whether s consists of letters, digits, _ and the characters of
// extra only.
func Word(s, extra string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
		case strings.ContainsRune(extra, r):
		default:
			return false
		}
	}
	return true
}

func invalid(label, arg string) error {
	return fmt.Errorf("%s: invalid format: %q", label, arg)
}
