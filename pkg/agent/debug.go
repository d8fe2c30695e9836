package agent

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

const profilesPath = "/debug/pprof/"

// withProfiles adds Go's profiles to the client addresses while enable_debug is set. It
// is off by default because profiles show internals and cost time.
func (a *Agent) withProfiles(next http.Handler) http.Handler {
	profiles := map[string]http.HandlerFunc{
		"cmdline": pprof.Cmdline,
		"profile": pprof.Profile,
		"symbol":  pprof.Symbol,
		"trace":   pprof.Trace,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, profilesPath)
		switch {
		case !ok, !a.live.Load().EnableDebug:
			next.ServeHTTP(w, r)
		case profiles[name] != nil:
			profiles[name](w, r)
		default:
			pprof.Index(w, r)
		}
	})
}
