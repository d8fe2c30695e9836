package api

import (
	"path"
	"strings"
)

// CleanKey is the key, or prefix, that an agent reads from a path: without a leading
// slash and without empty, "." and ".." parts. Every agent, Consul's too, redirects
// to that path. A ".." cannot leave the store.
func CleanKey(key string) string {
	clean := path.Clean("/" + key)[1:]
	if clean != "" && strings.HasSuffix(key, "/") {
		clean += "/"
	}
	return clean
}
