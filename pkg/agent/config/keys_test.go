package config

import (
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// refusedKeys are the keys about who is let in or believed that do nothing of the
// kind yet, each with a value that must stop the start.
func refusedKeys() map[string]any {
	return map[string]any{
		"acl.enabled": true, "acl_datacenter": "dc1",
		"auto_encrypt.tls": true, "auto_encrypt.allow_tls": true, "auto_config.enabled": true,
		"serf_lan_allowed_cidrs":     []string{"10.0.0.0/8"},
		"limits.request_limits.mode": "enforcing",
		"tls.defaults.ca_path":       "/ca", "tls.internal_rpc.ca_path": "/ca",
	}
}

// alwaysKeys ask for what muster does anyway, or for nothing.
func alwaysKeys() []string {
	return []string{
		// labels of the file
		"version", "version_prerelease", "version_metadata", "revision", "build_date",
		// nobody is asked for updates; node ids are random
		"disable_update_check", "disable_anonymous_signature", "disable_host_node_id",
		// the server port is TLS 1.3
		"tls.defaults.tls_min_version", "tls.internal_rpc.tls_min_version",
		// with a CA the server port verifies both ends always, and without one these are refused: validateTLS
		"tls.defaults.verify_incoming", "tls.internal_rpc.verify_incoming",
		"tls.defaults.verify_outgoing", "tls.internal_rpc.verify_outgoing",
		// a check inside a service belongs to that one
		"services[].check.service_id", "services[].checks[].service_id",
	}
}

// filledFrom names the field without a key that holds what became of a key.
func filledFrom() map[string]string {
	return map[string]string{
		"encrypt": "EncryptKey", "bind_addr": "Bind", "serf_lan": "SerfBind", "client_addr": "Listen",
		"addresses.http": "Listen", "addresses.dns": "Listen", "ports.http": "Listen", "ports.dns": "Listen",
		"advertise_addr": "Advertise", "advertise_addr_ipv4": "TaggedAddresses", "advertise_addr_ipv6": "TaggedAddresses",
		"advertise_addr_wan": "TaggedAddresses", "advertise_addr_wan_ipv4": "TaggedAddresses", "advertise_addr_wan_ipv6": "TaggedAddresses",
		"disable_remote_exec": "RemoteExec", "enable_remote_exec": "RemoteExec", "exec_authorized_keys": "ExecKeys", "job.*.args": "ArgsExpression",
		"unix_sockets.mode":      "FileMode",
		"dns_config.soa.refresh": "SOA", "dns_config.soa.retry": "SOA", "dns_config.soa.expire": "SOA", "dns_config.soa.min_ttl": "SOA",
	}
}

// TestEveryKeyIsHonouredOrSaysNot walks all keys. One that is taken and does
// nothing, in silence, lets its owner believe in a protection, or look for a fault
// where none is. A new key fails here until a part of the agent reads it.
func TestEveryKeyIsHonouredOrSaysNot(t *testing.T) {
	agent := selectors(t, "../*.go", "../httpserver/*.go", "../../../cmd/agent/*.go")
	checks := selectors(t, "../local/*.go", "../check/*.go")
	moved := map[string]bool{}
	for _, mv := range moves() {
		moved[mv.from] = true
	}
	count := map[string]int{}
	for _, key := range keysOf("", nil, reflect.TypeFor[document]()) {
		top, _, _ := strings.Cut(key.Name, "[")
		switch {
		case refusedKeys()[key.Name] != nil:
			count["refused"]++
			assertRefused(t, key.Name)
		case slices.Contains(alwaysKeys(), key.Name):
			count["always"]++
		case slices.Contains(key.Options, "unused") || slices.Contains(key.Options, "ignored"):
			count["warned"]++
			assertWarned(t, key)
		case moved[top]: // another spelling: what it stands for has a verdict of its own
			count["moved"]++
		case key.Name == "ports.https": // a warning of its own, or refused: TestMistakes
			count["refused"]++
		case key.Field == "":
			t.Errorf("%s is accepted in silence and does nothing: honour it, or mark it ignored", key.Name)
		default:
			count["honoured"]++
			read, name := agent, key.Field
			if top == "services" || top == "checks" {
				read = checks
			}
			if via := filledFrom()[key.Name]; via != "" {
				name = via
			}
			if !read[name] {
				t.Errorf("%s is accepted, and no part of the agent reads %s: honour it, mark it unused, or refuse it", key.Name, name)
			}
		}
	}
	t.Logf("keys: %v", count)
	if count["honoured"] < 150 || count["warned"] < 100 || count["refused"] < 9 {
		t.Errorf("the walk finds too few keys: %v", count)
	}
}

// fileKey is one key that a file may hold.
type fileKey struct {
	Name    string       // dotted; "[]" stands after a list, "*" for a key of the user's in a map
	Field   string       // the Go field that holds it; "" if it is accepted unchecked
	Type    reflect.Type // of the field; nil likewise
	Options []string     // of the tag, and of those around it
}

// keysOf lists the keys of a struct, those inside lists and maps too. Further spellings
// of a key are left out.
func keysOf(prefix string, outer []string, t reflect.Type) (out []fileKey) {
	for i := range t.NumField() {
		field := t.Field(i)
		tag := strings.Split(field.Tag.Get("conf"), ",")
		options := append(slices.Clone(outer), tag[1:]...)
		names := strings.Split(tag[0], "|")
		switch {
		case slices.Contains(tag, "squash"):
			out = append(out, keysOf(prefix, outer, field.Type)...)
		case tag[0] == "" || tag[0] == "-":
		case slices.Contains(tag, "ignored") || slices.Contains(tag, "silent"):
			for _, name := range names {
				out = append(out, fileKey{Name: prefix + name, Options: options})
			}
		default:
			key := fileKey{prefix + names[0], field.Name, field.Type, options}
			if path, inner := structIn(key.Name, field.Type); inner != nil {
				out = append(out, keysOf(path+".", options, inner)...)
			} else {
				out = append(out, key)
			}
		}
	}
	return out
}

// structIn is the struct in which a value of type t, or the elements of such a list or
// map, have their keys, and the path to it; nil if there is none.
func structIn(path string, t reflect.Type) (string, reflect.Type) {
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
	case t.Kind() == reflect.Struct:
		return path, t
	case t.Kind() == reflect.Pointer:
		return structIn(path, t.Elem())
	case t.Kind() == reflect.Slice:
		return structIn(path+"[]", t.Elem())
	case t.Kind() == reflect.Map:
		return structIn(path+".*", t.Elem())
	}
	return path, nil
}

// selectors are the names that Go code reads off a value, tests left out.
func selectors(t *testing.T, patterns ...string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files match %s: %v", pattern, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					out[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	return out
}

func loadJSON(t *testing.T, v any) (*Config, []string, error) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Sources{Paths: []string{path}, Flags: local(nil)})
}

func assertRefused(t *testing.T, key string) {
	t.Helper()
	_, _, err := loadJSON(t, nest(key, refusedKeys()[key]))
	if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "is not built yet") {
		t.Errorf("%s: got %v, want a refusal that names it", key, err)
	}
}

// assertWarned sets a key and looks for it, or for the section it is in, in the
// warnings.
func assertWarned(t *testing.T, key fileKey) {
	t.Helper()
	_, warnings, err := loadJSON(t, document1(key))
	if err != nil {
		t.Errorf("%s: %v", key.Name, err)
		return
	}
	named := false
	for _, w := range warnings {
		_, list, _ := strings.Cut(w, "no effect: ")
		for name := range strings.SplitSeq(list, ", ") {
			named = named || name != "" && (key.Name == name || strings.HasPrefix(key.Name, name+"."))
		}
	}
	if !named {
		t.Errorf("%s does nothing, and no warning names it: %q", key.Name, warnings)
	}
}

// document1 is a file with one key, and what its surroundings need.
func document1(key fileKey) map[string]any {
	var v any = sample(key.Type)
	parts := strings.Split(key.Name, ".")
	if strings.HasSuffix(key.Name, "compat_1.9") { // the one key with a dot in it
		parts = append(parts[:len(parts)-2], "disable_compat_1.9")
	}
	for i, part := range slices.Backward(parts) {
		name, isList := strings.CutSuffix(part, "[]")
		if isList {
			v.(map[string]any)["name"] = "a"
			v = []any{v}
		}
		if i > 0 && (parts[i-1] == "service[]" || parts[i-1] == "services[]") && strings.HasPrefix(name, "check") {
			v = withTTL(v)
		} else if isList && strings.HasPrefix(name, "check") {
			v = withTTL(v)
		}
		v = map[string]any{name: v}
	}
	return v.(map[string]any)
}

func withTTL(v any) any {
	if list, ok := v.([]any); ok {
		list[0].(map[string]any)["ttl"] = "10s"
	} else if m, ok := v.(map[string]any); ok {
		m["ttl"] = "10s"
	}
	return v
}

func sample(t reflect.Type) any {
	switch {
	case t == nil:
		return "x"
	case t == reflect.TypeFor[time.Duration]():
		return "1s"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return sample(t.Elem())
	case reflect.Bool:
		return true
	case reflect.String:
		return "127.0.0.1"
	case reflect.Slice:
		return []any{sample(t.Elem())}
	}
	return 3
}
