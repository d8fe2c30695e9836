package agent

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/config"
)

func TestProfilesOnlyWhereSwitchedOn(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "next")
	})
	for _, c := range []struct {
		debug bool
		path  string
		want  int
	}{
		{false, "/debug/pprof/", http.StatusTeapot},
		{true, "/debug/pprof/", http.StatusOK},
		{true, "/debug/pprof/cmdline", http.StatusOK},
		{true, "/debug/pprof/heap", http.StatusOK},
		{true, "/v1/kv/a", http.StatusTeapot},
	} {
		a := New(&config.Config{EnableDebug: c.debug}, Options{})
		w := httptest.NewRecorder()
		a.withProfiles(next).ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		if w.Code != c.want {
			t.Errorf("debug %v: %s answers %d, want %d", c.debug, c.path, w.Code, c.want)
		}
	}
}
