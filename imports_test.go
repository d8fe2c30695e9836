// Package muster holds no code: it is where the rules of the whole tree are
// tested.
package muster

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-dev/muster/"

// floors is the tree of docs/architecture.md: a package imports only floors
// below its own on its side, and shared packages below it; never sideways. The
// tools' side never imports the agent's; only pkg/agent itself may use the
// tools' side.
var floors = map[string]struct {
	side  string
	floor int
}{
	"pkg/api":        {"shared", 0},
	"pkg/client":     {"shared", 1},
	"pkg/conf":       {"shared", 1},
	"pkg/logx":       {"shared", 1},
	"pkg/proc":       {"shared", 1},
	"pkg/proc/guard": {"shared", 0},
	"pkg/durable":    {"shared", 0},
	"pkg/signed":     {"shared", 1},
	"pkg/retry":      {"shared", 0},
	"pkg/broadcast":  {"shared", 0},
	"pkg/cli":        {"shared", 1},

	"pkg/query":          {"shared", 1},
	"pkg/watch":          {"shared", 2},
	"pkg/lock":           {"tools", 2},
	"pkg/render":         {"tools", 2},
	"pkg/funcs":          {"tools", 2},
	"pkg/settings":       {"tools", 3},
	"pkg/dataset":        {"tools", 3},
	"pkg/rexec":          {"tools", 3},
	"pkg/supervise":      {"tools", 2},
	"pkg/env":            {"tools", 2},
	"pkg/handlers":       {"tools", 3},
	"pkg/rollout":        {"tools", 3},
	"pkg/tmpl":           {"tools", 4},
	"pkg/envexec":        {"tools", 4},
	"pkg/operator":       {"tools", 4},
	"pkg/tmpl/tmpltest":  {"tools", 5},
	"pkg/tmpl/config":    {"tools", 5},
	"pkg/tmpl/offline":   {"tools", 5},
	"pkg/envexec/config": {"tools", 5},

	"pkg/agent/acl":        {"agent", 1},
	"pkg/agent/state":      {"agent", 2},
	"pkg/agent/conntable":  {"agent", 1},
	"pkg/agent/retryjoin":  {"agent", 3},
	"pkg/agent/datadir":    {"agent", 1},
	"pkg/agent/lookup":     {"agent", 5},
	"pkg/agent/httpserver": {"agent", 5},
	"pkg/agent/raftlog":    {"agent", 2},
	"pkg/agent/clusterid":  {"agent", 2},
	"pkg/agent/hclogx":     {"agent", 2},
	"pkg/agent/mux":        {"agent", 2},
	"pkg/agent/gossip":     {"agent", 2},
	"pkg/agent/check":      {"agent", 2},
	"pkg/agent/bus":        {"agent", 2},
	"pkg/agent/nextcall":   {"agent", 2},
	"pkg/agent/config":     {"agent", 2},
	"pkg/agent/view":       {"agent", 3},
	"pkg/agent/local":      {"agent", 3},
	"pkg/agent/event":      {"agent", 3},
	"pkg/agent/exec":       {"agent", 3},
	"pkg/agent/forward":    {"agent", 3},
	"pkg/agent/loopback":   {"agent", 2},
	"pkg/agent/raftnode":   {"agent", 4},
	"pkg/agent/dns":        {"agent", 4},
	"pkg/agent/httpapi":    {"agent", 4},
	"pkg/agent/server":     {"agent", 5},
	"pkg/agent":            {"agent", 6},
}

func TestFloors(t *testing.T) {
	seen := map[string]bool{}
	eachImport(t, "pkg", func(file, from, to string) {
		seen[from] = true
		me, ok := floors[from]
		if !ok {
			t.Fatalf("%s: package %s has no floor; give it one here and in docs/architecture.md", file, from)
		}
		if to == "" {
			return
		}
		it, ok := floors[to]
		switch {
		case !ok:
			t.Errorf("%s imports %s, which has no floor", file, to)
		case it.floor >= me.floor:
			t.Errorf("%s: %s (floor %d) imports %s (floor %d)", file, from, me.floor, to, it.floor)
		case it.side == "shared" || it.side == me.side:
		case me.side == "agent" && me.floor >= 6:
		default:
			t.Errorf("%s: %s (%s side) imports %s (%s side)", file, from, me.side, to, it.side)
		}
	})
	for name := range floors {
		if !seen[name] {
			t.Errorf("%s has a floor but no code", name)
		}
	}
}

// Only cmd knows how a command line is read and settled with the environment.
func TestCommandLineLibrariesStayInCmd(t *testing.T) {
	eachFile(t, "pkg", func(file string, imports []string) {
		for _, imp := range imports {
			if strings.HasPrefix(imp, "github.com/spf13/viper") ||
				strings.HasPrefix(imp, "github.com/spf13/cobra") && !strings.HasPrefix(file, "pkg/cli/") {
				t.Errorf("%s imports %s; that is for cmd/", file, imp)
			}
		}
	})
}

// memdb is the state's own business, and so is raft that of its node.
func TestLibrariesStayInTheirPackage(t *testing.T) {
	owners := map[string][]string{
		"github.com/hashicorp/go-memdb":                {"pkg/agent/state/"},
		"github.com/hashicorp/serf/serf":               {"pkg/agent/gossip/"},
		"github.com/hashicorp/raft-boltdb":             {"pkg/agent/raftlog/"},
		"github.com/prometheus/client_golang":          {"pkg/agent/"},
		"github.com/miekg/dns":                         {"pkg/agent/dns/"},
		"github.com/Masterminds/sprig":                 {"pkg/funcs/"},
		"github.com/hashicorp/go-immutable-radix":      {"pkg/agent/state/"},
		"github.com/hashicorp/go-bexpr":                {"pkg/agent/httpapi/"},
		"github.com/hashicorp/serf/coordinate":         {"pkg/agent/"},
		"github.com/hashicorp/raft-autopilot":          {"pkg/agent/server/"},
		"github.com/hashicorp/memberlist":              {"pkg/agent/gossip/"},
		"github.com/fsnotify/fsnotify":                 {"cmd/", "pkg/agent/", "pkg/tmpl/"},
		"github.com/hashicorp/go-msgpack/v2/codec":     {"pkg/agent/state/", "pkg/agent/gossip/", "pkg/agent/event/"},
		"github.com/pelletier/go-toml":                 {"pkg/conf/", "pkg/funcs/"},
		"github.com/hashicorp/hcl":                     {"pkg/conf/"},
		"github.com/hashicorp/go-sockaddr":             {"pkg/agent/", "pkg/funcs/"},
		"github.com/hashicorp/go-metrics":              {"pkg/agent/"},
		"github.com/hashicorp/go-hclog":                {"pkg/agent/hclogx/"},
		"github.com/hashicorp/raft":                    {"pkg/agent/"},
		"github.com/prometheus/client_golang/promhttp": {"pkg/agent/"},
	}
	for _, root := range []string{"pkg", "cmd"} {
		eachFile(t, root, func(file string, imports []string) {
			for _, imp := range imports {
				for lib, homes := range owners {
					if (imp == lib || strings.HasPrefix(imp, lib+"/")) && !hasAnyPrefix(file, homes) {
						t.Errorf("%s imports %s; that belongs to %v", file, imp, homes)
					}
				}
			}
		})
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// eachImport calls f for every import of our own by the non-test files below
// root, and once with an empty to for each file.
func eachImport(t *testing.T, root string, f func(file, from, to string)) {
	eachFile(t, root, func(file string, imports []string) {
		from := filepath.ToSlash(filepath.Dir(file))
		f(file, from, "")
		for _, imp := range imports {
			if to, ok := strings.CutPrefix(imp, module); ok {
				f(file, from, to)
			}
		}
	})
}

func eachFile(t *testing.T, root string, f func(file string, imports []string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, spec := range parsed.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imp)
		}
		f(filepath.ToSlash(path), imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
