package httpapi

import "net/url"

// shareKey is equal for reads that must have the same answer: reads of one path whose
// parameters are equal, except those of presentation. It is "" for reads that are cheaper
// to answer than to share.
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
	// The blank keeps path and parameters apart: a path may hold a "?", Encode writes no blank.
	return values.Encode() + " " + path
}

// presentation says whether a parameter changes only when, by whom and in what form an
// answer is given, not the answer.
func presentation(name string) bool {
	switch name {
	case "index", "wait", "stale", "consistent", "leader", "max_stale", "cached", "pretty", "token", "dc", "datacenter", "near":
		return true
	}
	return false
}
