package httpapi

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/acl"
)

// Routes of one prefix may take the name alone, or what follows it too.
func TestNamesAndSuffixes(t *testing.T) {
	t1 := newTable([]route{{path: "/v1/query"}, {path: "/v1/query/"}, {path: "/v1/query/*/execute"}, {path: "/v1/kv/"}, {path: "/v1/only/*/x"}})
	for path, want := range map[string]struct{ route, name string }{
		"/v1/query":             {"/v1/query", ""},
		"/v1/query/":            {"/v1/query/", ""},
		"/v1/query/id":          {"/v1/query/", "id"},
		"/v1/query/id/execute":  {"/v1/query/*/execute", "id"},
		"/v1/query/a/b/execute": {"/v1/query/*/execute", "a/b"},
		"/v1/query//execute":    {"/v1/query/", "/execute"},
		"/v1/query/execute":     {"/v1/query/", "execute"},
		"/v1/query/id/other":    {"/v1/query/", "id/other"},
		"/v1/kv/id/execute":     {"/v1/kv/", "id/execute"},
		"/v1/only/a/x":          {"/v1/only/*/x", "a"},
		"/v1/only/a":            {"", ""},
		"/v1/only/":             {"", ""},
		"/v1/nothing/id":        {"", ""},
	} {
		rt, name, redirect := t1.find(path)
		got := ""
		if rt != nil {
			got = rt.path
		}
		if redirect || got != want.route || rt != nil && name != want.name {
			t.Errorf("%s: route %q, name %q, redirect %v; want %+v", path, got, name, redirect, want)
		}
	}
	for _, path := range []string{"/v1/only", "/v1/kv"} {
		if _, _, redirect := t1.find(path); redirect != (path == "/v1/kv") {
			t.Errorf("%s: redirect %v", path, redirect)
		}
	}
}

// Every row says where it runs and what it needs, and methods that HTTP knows; and no
// request makes access panic, nor is one on a client agent without an answer.
func TestRowsAreWhole(t *testing.T) {
	r := newRig(t)
	r.seed()
	seen := map[string]bool{}
	for _, rt := range routes() {
		if rt.access == nil || rt.handle == nil || !strings.HasPrefix(rt.path, "/v1/") || seen[rt.path] {
			t.Errorf("%s: %+v", rt.path, rt)
		}
		seen[rt.path] = true
		for method := range strings.SplitSeq(rt.methods, ",") {
			for _, body := range []string{"", "null", "{}", "[]", `{"Node":"n1"}`} {
				rq := &request{api: r.api, r: httptest.NewRequest(method, rt.path, nil), route: &rt, name: "web1", body: []byte(body)}
				_ = rt.access(rq)
			}
		}
	}
}

func TestAccess(t *testing.T) {
	r := newRig(t)
	r.seed()
	r.do("PUT /v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1","Service":{"ID":"web1","Service":"web"}}`)
	need := func(resource acl.Resource, name string, access acl.Access) acl.Need {
		return acl.Need{Resource: resource, Name: name, Access: access}
	}
	web := need(acl.Service, "web", acl.Write)
	for _, c := range []struct {
		request, body string
		want          []acl.Need
	}{
		{"GET /v1/status/leader", "", nil},
		{"GET /v1/catalog/nodes", "", nil},
		{"GET /v1/kv/app/a", "", []acl.Need{need(acl.Key, "app/a", acl.Read)}},
		{"GET /v1/kv/app/?recurse", "", nil},
		{"PUT /v1/kv/app/a", "x", []acl.Need{need(acl.Key, "app/a", acl.Write)}},
		{"DELETE /v1/kv/app/?recurse", "", []acl.Need{{Resource: acl.Key, Name: "app/", Access: acl.Write, Prefix: true}}},
		{"PUT /v1/event/fire/deploy", "", []acl.Need{need(acl.Event, "deploy", acl.Write)}},
		{"PUT /v1/session/create", `{"Node":"n1"}`, []acl.Need{need(acl.Session, "n1", acl.Write)}},
		{"PUT /v1/catalog/register", `{"Node":"n1","Address":"a","Service":{"Service":"db"},"Check":{"Name":"c","ServiceID":"web1"}}`,
			[]acl.Need{need(acl.Node, "n1", acl.Write), need(acl.Service, "db", acl.Write), web}},
		{"PUT /v1/catalog/deregister", `{"Node":"n1","ServiceID":"web1"}`,
			[]acl.Need{{Resource: acl.Node, Name: "n1", Access: acl.Write, Or: &web}}},
		{"PUT /v1/txn", `[{"KV":{"Verb":"set","Key":"a"}},{"KV":{"Verb":"get","Key":"b"}},{"KV":{"Verb":"delete-tree","Key":"c/"}},{"KV":{"Verb":"get-tree","Key":"d/"}},{"Node":{"Verb":"get","Node":{"Node":"n1"}}}]`,
			[]acl.Need{need(acl.Key, "a", acl.Write), need(acl.Key, "b", acl.Read), {Resource: acl.Key, Name: "c/", Access: acl.Write, Prefix: true}, need(acl.Node, "n1", acl.Read)}},
		{"PUT /v1/agent/force-leave/n1", "", []acl.Need{need(acl.Operator, "", acl.Write)}},
		{"PUT /v1/agent/service/register", `{"Name":"web"}`, []acl.Need{web}},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		in := httptest.NewRequest(method, target, nil)
		rt, name, _ := r.api.table.find(in.URL.Path)
		rq := &request{api: r.api, r: in, route: rt, name: name, body: []byte(c.body)}
		rq.values = in.URL.Query()
		got := rt.access(rq)
		if !slices.EqualFunc(got, c.want, func(a, b acl.Need) bool {
			either := (a.Or == nil) == (b.Or == nil) && (a.Or == nil || *a.Or == *b.Or)
			a.Or, b.Or = nil, nil
			return either && a == b
		}) {
			t.Errorf("%s %s needs %+v, want %+v", c.request, c.body, got, c.want)
		}
	}
}

// What a route is like is said in its row: nothing here, at the server or in between
// asks for a path by itself.
func TestPropertiesOfRoutesAreInTheTable(t *testing.T) {
	for _, dir := range []string{".", "../forward", "../server"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			if base := filepath.Base(file); strings.HasSuffix(base, "_test.go") || base == "table.go" || base == "routes.go" || base == "route.go" {
				continue
			}
			for _, found := range pathComparisons(t, file, nil) {
				t.Errorf("%s: a path is compared: give the route a column, or a trait", found)
			}
		}
	}
}

// That test finds what it is there for.
func TestComparisonsAreFound(t *testing.T) {
	for code, want := range map[string]int{
		`if rt.path == kvPath {}`:                                    1,
		`switch r.URL.Path { case "/v1/kv/": }`:                      2, // its tag and its case
		`switch p { case "/v1/kv/": }`:                               1,
		`switch p { case kvPath: }`:                                  1,
		`switch { case rq.route.path == "/v1/txn": }`:                1,
		`if strings.HasPrefix(rt.path, "/v1/agent/") {}`:             1,
		`if strings.HasPrefix(r.URL.Path, prefix) && a != "/v1/" {}`: 1,
		`if cleanPath(p) != p {}`:                                    0,
		`to := url.URL{Path: "/v1/x"}`:                               0,
	} {
		src := "package p\nfunc f() { " + code + " }"
		if got := pathComparisons(t, "x.go", src); len(got) != want {
			t.Errorf("%s: found %v, want %d", code, got, want)
		}
	}
}

// pathComparisons finds where a path of a request or a route is compared with a text
// or a constant of the API's.
func pathComparisons(t *testing.T, file string, src any) (found []string) {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := func(n ast.Node) { found = append(found, fset.Position(n.Pos()).String()) }
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isRoute(n.X) || isRoute(n.Y)) {
				note(n)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isPath(n.Tag) {
				note(n)
			}
		case *ast.CaseClause:
			if slices.ContainsFunc(n.List, isRoute) {
				note(n)
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "HasPrefix" || sel.Sel.Name == "HasSuffix") && slices.ContainsFunc(n.Args, isRoute) {
				note(n)
			}
		}
		return true
	})
	return found
}

// isPath tells .path and .URL.Path.
func isPath(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && (sel.Sel.Name == "path" || sel.Sel.Name == "Path")
}

// isRoute tells a text that is a path of the API, a constant that may be one, and the
// path of a row.
func isRoute(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return err == nil && strings.HasPrefix(text, "/v1/")
	case *ast.Ident:
		return strings.HasSuffix(e.Name, "Path") && e.Name != "Path"
	case *ast.SelectorExpr:
		return e.Sel.Name == "path" || strings.HasSuffix(e.Sel.Name, "Path") && e.Sel.Name != "Path" && e.Sel.Name != "RawPath"
	}
	return false
}

// The table is what people cite: it stays on two screens.
func TestTableStaysOnTwoScreens(t *testing.T) {
	text, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > 160 {
		t.Errorf("routes.go has %d lines", lines)
	}
}
