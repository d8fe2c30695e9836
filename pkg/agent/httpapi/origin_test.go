package httpapi

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/api"
)

// What http_config forbids holds at the client addresses: not for what this agent
// asks itself, nor for what other agents forward, and for every write but no read.
func TestHTTPConfigIsOfTheClientAddresses(t *testing.T) {
	restricted := newRig(t, func(c *Config) {
		c.AllowWriteFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} // the recorder's requests come from 192.0.2.1
		c.ResponseHeaders = map[string]string{"X-Mine": "yes"}
	})
	blocked := newRig(t, func(c *Config) { c.BlockEndpoints = []string{"/v1/"} })
	gone, hangUp := context.WithCancel(context.Background()) // or a stream would not end
	hangUp()
	reads := map[string]bool{"POST " + api.SubscribePath: true, "POST /v1/exec/output/": true}
	for _, rt := range routes() {
		for method := range strings.SplitSeq(rt.methods, ",") {
			target := method + " " + rt.path
			for name, h := range map[string]http.Handler{"its own": restricted.api.Own(), "forwarded": restricted.api.Internal()} {
				if w := restricted.send(gone, h, target, ""); w.Code == 403 || w.Header().Get("X-Mine") != "" {
					t.Errorf("%s, %s: %d %q %v", target, name, w.Code, w.Body, w.Header())
				}
			}
			for name, h := range map[string]http.Handler{"its own": blocked.api.Own(), "forwarded": blocked.api.Internal()} {
				if w := blocked.send(gone, h, target, ""); w.Code == 403 {
					t.Errorf("%s, %s: %d %q", target, name, w.Code, w.Body)
				}
			}
			if !rt.served(origin{public: true}) {
				continue
			}
			write := method != http.MethodGet && !reads[target]
			if w := restricted.send(gone, restricted.api.Public(), target, ""); (w.Code == 403) != write || w.Header().Get("X-Mine") != "yes" {
				t.Errorf("%s, from outside: %d %q %v", target, w.Code, w.Body, w.Header())
			}
			if w := blocked.send(gone, blocked.api.Public(), target, ""); w.Code != 403 {
				t.Errorf("%s, blocked: %d %q", target, w.Code, w.Body)
			}
		}
	}
}

// What cannot be read at a client address cannot be followed there either.
func TestOnlyWhatIsReadableIsFollowed(t *testing.T) {
	r := newRig(t)
	r.seed()
	var paths []string
	for _, rt := range routes() {
		path := rt.path
		if strings.HasSuffix(path, "/") {
			path += "a"
		}
		paths = append(paths, path)
	}
	all := queries(append(paths, "/v1//internal/exec/calls/a", "/v1/kv/../internal/exec/calls/a", exec.CallsPath+"%61")...)
	byID := map[string]string{}
	for _, q := range all {
		byID[q.ID] = q.Path
	}
	inside := 0
	for _, result := range r.subscribe(t, api.Subscription{Queries: all}).next().Results {
		switch path := byID[result.ID]; {
		case strings.Contains(path, "internal"):
			inside++
			if result.Status != http.StatusNotFound {
				t.Errorf("%s is followed: %d %s", path, result.Status, result.Body)
			}
		case strings.HasPrefix(path, "/v1/health/service/") && result.Status != http.StatusOK:
			t.Errorf("%s: %d %s", path, result.Status, result.Body)
		}
	}
	if inside < 4 {
		t.Errorf("%d results of internal paths", inside)
	}
}

func TestBlockedPathsAreNotFollowed(t *testing.T) {
	for _, kind := range []string{"server", "client"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.BlockEndpoints = []string{"/v1/kv/secret"}
				if kind == "client" {
					c.Cluster = nil
				}
			})
			for _, path := range []string{"/v1/kv/secret", "/v1/kv/secret/a?recurse", "/v1/kv/%73ecret", "/v1/kv%2Fsecret"} {
				body := `{"Queries":[{"ID":"ok","Path":"/v1/kv/a"},{"ID":"x","Path":"` + path + `"}]}`
				if w := r.do("POST "+api.SubscribePath, body); w.Code != 403 || !strings.Contains(w.Body.String(), "blocked") {
					t.Errorf("%s: %d %q", path, w.Code, w.Body)
				}
			}
			if len(r.forward.calls) > 0 {
				t.Errorf("sent on: %q", r.forward.calls)
			}
			gone, hangUp := context.WithCancel(context.Background())
			hangUp()
			if w := r.send(gone, r.api.Public(), "POST "+api.SubscribePath, `{"Queries":[{"ID":"ok","Path":"/v1/kv/a"}]}`); w.Code == 403 {
				t.Errorf("what is not blocked: %d %q", w.Code, w.Body)
			}
			if w := r.send(gone, r.api.Own(), "POST "+api.SubscribePath, `{"Queries":[{"ID":"x","Path":"/v1/kv/secret"}]}`); w.Code == 403 {
				t.Errorf("the agent's own: %d %q", w.Code, w.Body)
			}
		})
	}
}
