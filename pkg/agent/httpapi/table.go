package httpapi

import "strings"

// table finds routes.
type table struct {
	exact map[string]*route // paths without a name
	named map[string]*named // by what stands before the name, with its slash
}

// named are the routes that take a name after the same prefix.
type named struct {
	plain    *route            // the name is all that follows; may be nil
	suffixed map[string]*route // by what follows the name, with its slash
}

// maxSegments is more than the segments of any route before its name, so that
// looking up a path costs the same however many slashes it has.
const maxSegments = 8

func newTable(rows []route) table {
	t := table{exact: map[string]*route{}, named: map[string]*named{}}
	for i := range rows {
		rt := &rows[i]
		prefix, suffix, suffixed := strings.Cut(rt.path, "*")
		if !suffixed && !strings.HasSuffix(rt.path, "/") {
			t.exact[rt.path] = rt
			continue
		}
		n := t.named[prefix]
		if n == nil {
			n = &named{suffixed: map[string]*route{}}
			t.named[prefix] = n
		}
		if suffixed {
			n.suffixed[suffix] = rt
		} else {
			n.plain = rt
		}
	}
	return t
}

// find gives the route of a path and the name in it. A route without its slash
// is to be redirected to the path with it.
func (t table) find(path string) (rt *route, name string, redirect bool) {
	if rt := t.exact[path]; rt != nil {
		return rt, "", false
	}
	if n := t.named[path+"/"]; n != nil && n.plain != nil {
		return nil, "", true
	}
	end := 0
	for range maxSegments {
		i := strings.IndexByte(path[end:], '/')
		if i < 0 {
			break
		}
		end += i + 1
		if n := t.named[path[:end]]; n != nil {
			if longer, its := n.find(path[end:]); longer != nil {
				rt, name = longer, its
			}
		}
	}
	return rt, name, false
}

func (n *named) find(rest string) (*route, string) {
	if i := strings.LastIndexByte(rest, '/'); i > 0 && len(n.suffixed) > 0 {
		if rt := n.suffixed[rest[i:]]; rt != nil {
			return rt, rest[:i]
		}
	}
	return n.plain, rest
}
