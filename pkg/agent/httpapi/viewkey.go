package httpapi

import "net/url"

// shareKey is equal for reads that must have the same answer: those of one path
// with the same parameters, but for when and how they want it. It is "" for what
// is cheaper to ask than to share.
func (rq *request) shareKey() string {
	if alone := rq.route.unshared; alone != nil && alone(rq) {
		return ""
	}
	return rq.viewKey()
}

// viewKey is shareKey for reads that are waited for.
func (rq *request) viewKey() string {
	if rq.route.changes && rq.has(changesSince) {
		return "" // its index moves without a change of what it was read from
	}
	kept := make(url.Values, len(rq.values))
	for name, values := range rq.values {
		if !presentation(name) {
			kept[name] = values
		}
	}
	return viewKey(kept, rq.r.URL.Path)
}

func viewKey(values url.Values, path string) string {
	if len(values) == 0 {
		return path
	}
	// Any byte may be in a path, a "?" of its key too; no blank is in what Encode makes.
	return values.Encode() + " " + path
}

// presentation tells the parameters that say when, from whom and in what form an
// answer is wanted, and leave it what it is.
func presentation(name string) bool {
	switch name {
	case "index", "wait", "stale", "consistent", "leader", "max_stale", "cached", "pretty", "token", "dc", "datacenter", "near":
		return true
	}
	return false
}
