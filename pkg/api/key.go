package api

import (
	"path"
	"strings"
)

// CleanKey is the key, or prefix, that an agent finds under a path: without a
// leading slash, empty, "." and ".." parts, for which every agent, Consul's too,
// redirects to the clean path. One that would leave the store stays in it.
func CleanKey(key string) string {
	clean := path.Clean("/" + key)[1:]
	if clean != "" && strings.HasSuffix(key, "/") {
		clean += "/"
	}
	return clean
}
