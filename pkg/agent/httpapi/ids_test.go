package httpapi

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// TestEveryIDThatIsTakenCanBeGivenBack, by HTTP and by the client that the tools and
// the command line use. Ids travel in a body when they come, and in a path when they
// go: there they were cleaned, or refused.
func TestEveryIDThatIsTakenCanBeGivenBack(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewServer(r.api.Public())
	defer srv.Close()
	c, err := client.New(client.Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, id := range []string{
		"web", "http://a/b", "a//b", "/a", "//", "a/", ".", "..", "../..", "a/../b", "a/./b", "a\u2028b", "a\x01b", "a\nb", "\x00", "\u200bz",
		"a%2fb", `a\b`, "a?b", "a#b", "größe", "register", "maintenance/x", "deregister/web", "id/x", "web 1", "go.micro.api",
	} {
		reg := &api.AgentServiceRegistration{ID: id, Name: id, Check: &api.CheckDefinition{CheckID: id, TTL: api.Duration(time.Hour)}}
		if err := c.ServiceRegister(ctx, reg); err != nil {
			t.Errorf("%q: register: %v", id, err)
			continue
		}
		for _, what := range []string{"check/pass", "check/warn", "check/fail"} {
			if _, err := c.Put(ctx, "/v1/agent/"+what+"/"+id, nil, nil, nil); err != nil {
				t.Errorf("%q: %s: %v", id, what, err)
			}
		}
		if _, err := c.Put(ctx, "/v1/agent/check/update/"+id, nil, map[string]string{"Status": "passing"}, nil); err != nil {
			t.Errorf("%q: check/update: %v", id, err)
		}
		for _, on := range []bool{true, false} {
			if err := c.ServiceMaintenance(ctx, id, on, "why"); err != nil {
				t.Errorf("%q: maintenance: %v", id, err)
			}
		}
		for _, path := range []string{"/v1/agent/health/service/id/", "/v1/agent/health/service/name/"} {
			var out any
			if _, err := c.Get(ctx, path+id, nil, &out); err != nil {
				t.Errorf("%q: %s: %v", id, path, err)
			}
		}
		var svc api.AgentService
		_, err := c.Get(ctx, "/v1/agent/service/"+id, nil, &svc)
		if other := regexp.MustCompile("^(register$|deregister/|maintenance/)"); !other.MatchString(id) && (err != nil || svc.ID != id) {
			t.Errorf("%q: read %q, %v", id, svc.ID, err) // the others are routes, as in the reference
		}
		if _, err := c.Put(ctx, "/v1/agent/check/deregister/"+id, nil, nil, nil); err != nil {
			t.Errorf("%q: deregister the check: %v", id, err)
		}
		if err := c.ServiceDeregister(ctx, id); err != nil {
			t.Errorf("%q: deregister: %v", id, err)
		}
		if left, err := c.AgentServices(ctx, nil); err != nil || len(left) != 0 {
			t.Fatalf("%q: left are %v, %v", id, left, err)
		}

		entry := &api.CatalogRegistration{Node: "n-" + id, Address: "10.0.0.1", Service: &api.NodeService{ID: id, Service: id}}
		if err := c.CatalogRegister(ctx, entry); err != nil {
			t.Errorf("%q: catalog: %v", id, err)
			continue
		}
		if rows, _, err := c.ServiceNodes(ctx, id, nil); err != nil || len(rows) != 1 {
			t.Errorf("%q: catalog/service: %v, %v", id, rows, err)
		}
		if rows, _, err := c.HealthService(ctx, id, false, nil); err != nil || len(rows) != 1 {
			t.Errorf("%q: health/service: %v, %v", id, rows, err)
		}
		if node, _, err := c.NodeServices(ctx, "n-"+id, nil); err != nil || node == nil || node.Services[id] == nil {
			t.Errorf("%q: catalog/node: %v, %v", id, node, err)
		}
		if err := c.CatalogDeregister(ctx, &api.CatalogDeregistration{Node: "n-" + id}); err != nil {
			t.Errorf("%q: catalog: %v", id, err)
		}
	}
}

// TestPathsThatAreNotEncodedAreCleaned, as in the reference, and encoded keys too:
// they mean the same on every way into the store.
func TestPathsThatAreNotEncodedAreCleaned(t *testing.T) {
	srv := httptest.NewServer(newRig(t).api.Public())
	defer srv.Close()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]string{
		"/v1/agent/service/deregister/http://a": "/v1/agent/service/deregister/http:/a",
		"/v1/agent/service/a/../b":              "/v1/agent/service/b",
		"/v1/kv/a%2F%2Fb":                       "/v1/kv/a/b",
		"/v1//kv/a":                             "/v1/kv/a",
		"/v1/kv/%2e%2e/agent/self":              "/v1/agent/self",
	} {
		resp, err := c.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || got != want {
			t.Errorf("%s: %d, %q; want %q", path, resp.StatusCode, got, want)
		}
	}
}
