package tools

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// The look-ups of a template cost a request for each round of them, not one each:
// two for the services and then all their instances. A change costs none.
func TestRequestsOfAFirstRender(t *testing.T) {
	const n = 60
	a := harness.Dev(t)
	fill(t, a, n)
	var asked atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: a.Addr()})
	forward.FlushInterval = -1
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close) // after the tool, whose clean-up comes first, has hung up
	f := a.Folder(t)
	f.Write("in", allServices)
	f.Run("tmpl", "-http-addr", strings.TrimPrefix(proxy.URL, "http://"), "-template", "in:out")
	f.AwaitPart("out", "id0:1000 ", fmt.Sprintf("id%d:%d ", n-1, 1000+n-1))
	if got := asked.Load(); got > 2 {
		t.Errorf("%d requests for a first render of %d services, want at most 2", got, n)
	}
	before := asked.Load()
	a.RegisterNode("s7", "id7", 9007)
	f.AwaitPart("out", "id7:9007 ")
	if got := asked.Load() - before; got != 0 {
		t.Errorf("%d requests for a change, want none", got)
	}
}
