package httpapi

import "net/url"

const (
	kvPath       = "/v1/kv/"
	changesSince = "changes-since"
)

// shareKey is equal for reads that must have the same answer: those of one path
// with the same parameters, but for when and how they want it. It is "" for what
// is cheaper to ask than to share.
func (rq *request) shareKey() string {
	if rq.route.path == kvPath && rq.index == 0 && !rq.has("recurse") && !rq.has("keys") {
		return ""
	}
	return rq.viewKey()
}

// viewKey is shareKey for reads that are waited for.
func (rq *request) viewKey() string {
	if rq.has(changesSince) && rq.route.path == kvPath {
		return "" // its index moves without a change of what it was read from
	}
	kept := make(url.Values, len(rq.values))
	for name, values := range rq.values {
		if !bearing(name) {
			kept[name] = values
		}
	}
	if len(kept) == 0 {
		return rq.r.URL.Path
	}
	// Any byte may be in a path, a "?" of its key too; no blank is in what Encode makes.
	return kept.Encode() + " " + rq.r.URL.Path
}

// bearing tells the parameters that say when, from whom and in what form an
// answer is wanted, and leave it what it is.
func bearing(name string) bool {
	switch name {
	case "index", "wait", "stale", "consistent", "leader", "max_stale", "cached", "pretty", "token", "dc", "datacenter", "near":
		return true
	}
	return false
}
