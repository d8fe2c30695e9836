package clusterid

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// Each side refuses the other by itself: the one that is asked before it does anything,
// the one that asks where the other end does not look.
func TestRequestsBetweenClusters(t *testing.T) {
	for _, tt := range []struct {
		asks, asked  string
		guarded      bool
		done         bool
		code         int
		foreignError bool
	}{
		{"one", "one", true, true, 200, false},
		{"", "one", true, true, 200, false},
		{"one", "", true, true, 200, false},
		{"one", "two", true, false, 421, false},
		{"one", "two", false, true, 0, true},
	} {
		done, refused := false, 0
		var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			done = true
			if !tt.guarded {
				w.Header().Set(api.HeaderCluster, tt.asked)
			}
		})
		if tt.guarded {
			h = RefuseForeign(h, func() string { return tt.asked }, func(*http.Request, error) { refused++ })
		}
		srv := httptest.NewServer(h)
		c := http.Client{Transport: Transport{Inner: http.DefaultTransport, Own: func() string { return tt.asks }}}
		resp, err := c.Get(srv.URL)
		code, text := 0, ""
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			code, text = resp.StatusCode, string(body)
		}
		if done != tt.done || code != tt.code || errors.Is(err, ErrForeign) != tt.foreignError {
			t.Errorf("%q asks %q: done %v, code %d, %v", tt.asks, tt.asked, done, code, err)
		}
		if code == 421 && (!strings.Contains(text, "-retry-join") || refused != 1) {
			t.Errorf("it is told %q, and %d refusals are noted", text, refused)
		}
		srv.Close()
	}
}
