package query

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		arg  string
		want string // String of the query, or the error
	}{
		{KindKey, "a/b", "kv.get(a/b)"},
		{KindKey, "/a/b@dc-1.eu", "kv.get(a/b@dc-1.eu)"},
		{KindKey, "//a", "kv.get(/a)"},
		{KindKey, "a b:c.d~e|f", "kv.get(a b:c.d~e|f)"},
		{KindKey, "a?ns=x&partition=p@dc1", "kv.get(a?ns=x&partition=p@dc1)"},
		{KindKey, "a?partition=p&ns=x", "kv.get(a?ns=x&partition=p)"},
		{KindKey, "a?index=1", "kv.get(a?index=1)"}, // a key may hold a question mark
		{KindKey, "what?", "kv.get(what?)"},
		{KindKey, "a?b?ns=x@dc1", "kv.get(a?b?ns=x@dc1)"},
		{KindKey, "a?%zz=1 #2", "kv.get(a?%zz=1 #2)"},
		{KindPrefix, "a?b/", "kv.list(a?b/)"},
		{KindServices, "?index=1", `catalog.services: invalid query: "index=1": unknown parameter "index"`},
		{KindService, "web?%zz=1", `health.service: invalid query: "%zz=1"`},
		{KindKey, "", `kv.get: invalid format: ""`},
		{KindKey, "/", `kv.get: invalid format: "/"`},
		{KindKey, "a@b c", `kv.get: invalid format: "a@b c"`},
		{KindPrefix, "", "kv.list()"},
		{KindPrefix, "/", "kv.list()"},
		{KindPrefix, "a/@dc1", "kv.list(a/@dc1)"},
		{KindService, "web", "health.service(web|passing)"},
		{KindService, "web|passing", "health.service(web|passing)"},
		{KindService, "web|any", "health.service(web|any)"},
		{KindService, "web|passing,warning", "health.service(web|any)"},
		{KindService, "web| passing , warning ", "health.service(web|any)"},
		{KindService, "a=1:b-c.d.web-api_2@dc1~n-1.x|critical,maintenance", "health.service(a=1:b-c.d.web-api_2@dc1~n-1.x|any)"},
		{KindService, "t.web?sameness-group=g&peer=p@dc1~_agent", "health.service(t.web?peer=p&sameness-group=g@dc1~_agent|passing)"},
		{KindService, "", `health.service: invalid format: ""`},
		{KindService, ".web", `health.service: invalid format: ".web"`},
		{KindService, "tag.", `health.service: invalid format: "tag."`},
		{KindService, "web/2", "health.service(web/2|passing)"}, // a catalog takes any name
		{KindService, "web 1", "health.service(web 1|passing)"},
		{KindService, "größe@dc1|any", "health.service(größe@dc1|any)"},
		{KindService, "go.micro.api", "health.service(go.micro.api|passing)"},
		{KindService, "user@host@dc1", "health.service(user@host@dc1|passing)"},
		{KindService, "web~n@dc1", `health.service: invalid format: "web~n@dc1"`}, // wrong order
		{KindService, "web@", `health.service: invalid format: "web@"`},
		{KindService, "web|", `health.service: invalid format: "web|"`},
		{KindService, "web|any|any", `health.service: invalid format: "web|any|any"`},
		{KindService, "web|up", `health.service: invalid filter: "up" in "web|up"`},
		{KindServices, "", "catalog.services()"},
		{KindServices, "@dc1", "catalog.services(@dc1)"},
		{KindServices, "?ns=a@dc1", "catalog.services(?ns=a@dc1)"},
		{KindServices, "@dc1~n1", `catalog.services: invalid format: "@dc1~n1"`},
		{KindNodes, "@dc1~_agent", "catalog.nodes(@dc1~_agent)"},
		{KindNodes, "~n1", "catalog.nodes(~n1)"},
		{KindNodes, "@dc1~n 1/ö", "catalog.nodes(@dc1~n 1/ö)"}, // a catalog takes any name
		{KindNodes, "~n1@dc1", `catalog.nodes: invalid format: "~n1@dc1"`},
		{KindNodes, "dc1", `catalog.nodes: invalid format: "dc1"`},
		{KindNode, "", "catalog.node()"},
		{KindNode, "n1.example-2@dc1", "catalog.node(n1.example-2@dc1)"},
		{KindNode, "@dc1", "catalog.node(@dc1)"},
		{KindNode, "n1~n2", "catalog.node(n1~n2)"},
		{KindNode, "n 1/ö", "catalog.node(n 1/ö)"},
		{KindDatacenters, "", "catalog.datacenters()"},
		{KindFile, "/a@b?c|d", "file(/a@b?c|d)"},
		{KindFile, "", `file: invalid format: ""`},
	} {
		q, err := Parse(c.kind, c.arg)
		got := q.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || err == nil && got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.kind, c.arg, got, c.want)
		}
	}
}

// TestPaths: a name means the path that every HTTP server makes of it, and nothing where
// that is another's.
func TestPaths(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		name string
		want string // "": no path leads there
	}{
		{KindKey, "app/port", "/v1/kv/app/port"},
		{KindKey, "app//port", "/v1/kv/app/port"},
		{KindKey, "/app/port", "/v1/kv/app/port"},
		{KindKey, "./app/./port", "/v1/kv/app/port"},
		{KindKey, "app/x/../port", "/v1/kv/app/port"},
		{KindKey, "app/port/", "/v1/kv/app/port/"},
		{KindKey, "app/.hidden..", "/v1/kv/app/.hidden.."},
		{KindKey, "../kv/app", "/v1/kv/app"},
		{KindKey, "../agent/self", ""},
		{KindKey, "../../../x", ""},
		{KindKey, ".", ""},
		{KindKey, "a/..", ""},
		{KindPrefix, "", "/v1/kv/"},
		{KindPrefix, "/", "/v1/kv/"},
		{KindPrefix, ".", "/v1/kv/"},
		{KindPrefix, "app//", "/v1/kv/app/"},
		{KindPrefix, "app/db/..", "/v1/kv/app"},
		{KindPrefix, "app/db/../", "/v1/kv/app/"},
		{KindPrefix, "..", ""},
		{KindPrefix, "../catalog/", ""},
		{KindService, "parent/test", "/v1/health/service/parent/test"},
		{KindService, "web 1?#%", "/v1/health/service/web 1?#%"},
		{KindService, "a//b", ""},
		{KindService, "..", ""},
		{KindService, "../../agent/self", ""},
		{KindService, "web/", "/v1/health/service/web/"},
		{KindNode, "n.1", "/v1/catalog/node/n.1"},
		{KindNode, "..", ""},
		{KindNodes, "", "/v1/catalog/nodes"},
		{KindFile, "/etc/motd", ""},
	} {
		got, ok := Query{Kind: c.kind, Name: c.name}.Path()
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s %q: got %q, %v, want %q", c.kind, c.name, got, ok, c.want)
		}
	}
}

// The path of a key is where net/http's ServeMux redirects a client to. It escapes twice what
// it redirects, so the names here hold nothing to escape.
func TestPathsAreThoseOfAServer(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/kv/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	rapid.Check(t, func(t *rapid.T) {
		name := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b-c", "/", "//", ".", "..", "...", ".x"}), 0, 6).Draw(t, "parts"), "")
		at := &url.URL{Path: "/v1/kv/" + name}
		served := ""
		for range 4 {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, at.String(), nil))
			if w.Code == http.StatusOK {
				served = w.Body.String()
				break
			}
			next, err := url.Parse(w.Header().Get("Location"))
			if err != nil || w.Code == http.StatusNotFound {
				break
			}
			at = at.ResolveReference(next)
		}
		if got, ok := (Query{Kind: KindPrefix, Name: name}).Path(); ok != (served != "") || ok && got != served {
			t.Fatalf("%q: %q, %v, a server serves %q", name, got, ok, served)
		}
	})
}

// TestEqualQueries: two queries for the same are equal.
func TestEqualQueries(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		a, b string
		want bool
	}{
		{KindService, "web|any", "web|passing,critical", true},
		{KindService, "web", "web|passing", true},
		{KindService, "web", "web|any", false},
		{KindKey, "/a", "a", true},
		{KindKey, "a?ns=1&peer=2", "a?peer=2&ns=1", true},
		{KindKey, "a", "a@dc1", false},
	} {
		a, err := Parse(c.kind, c.a)
		b, err2 := Parse(c.kind, c.b)
		if err != nil || err2 != nil || (a == b) != c.want {
			t.Errorf("%s and %s: equal %v, want %v (%v %v)", c.a, c.b, a == b, c.want, err, err2)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"web", "t.web@dc~n|any", "a?ns=b@c", "", "|", "@", "~", "?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range []Kind{KindKey, KindPrefix, KindService, KindServices, KindNode, KindNodes} {
			q, err := Parse(kind, s)
			if err != nil {
				continue
			}
			again, err := Parse(kind, strings.TrimSuffix(strings.TrimPrefix(q.String(), string(kind)+"("), ")"))
			if err != nil && !strings.HasPrefix(q.Name, "/") {
				t.Errorf("%s %q: %s does not parse: %v", kind, s, q, err)
			}
			if err == nil && again != q && !strings.HasPrefix(q.Name, "/") {
				t.Errorf("%s %q: %s reads back as %s", kind, s, q, again)
			}
		}
	})
}
