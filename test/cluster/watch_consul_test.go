package cluster

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// besideConsul starts the reference's agent, and gives a folder whose tools ask it.
func besideConsul(t *testing.T) (consul string, f *harness.Folder, change func(path, body string)) {
	t.Helper()
	consul = consulBinary(t)
	addr := startConsul(t, harness.New(t), consul)
	f = &harness.Folder{T: t, Path: t.TempDir()}
	f.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+addr, "XDG_STATE_HOME="+f.File(".state"), "PATH="+harness.Bin(t)+":"+os.Getenv("PATH"))
	t.Cleanup(f.KillLeft)
	c, err := client.New(client.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return consul, f, func(path, body string) {
		t.Helper()
		path, query, _ := strings.Cut(path, "?")
		params, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(t.Context(), path, &client.Options{Params: params}, []byte(body), nil); err != nil {
			t.Fatalf("PUT %s: %v", path, err)
		}
	}
}

// At an agent of the reference's, watch and "consul watch" give their handlers the same
// bytes and the same CONSUL_INDEX, for each of the seven types.
func TestWatchBesideConsul(t *testing.T) {
	consul, f, change := besideConsul(t)
	types := map[string][]string{
		"key": {"-key=app/k"}, "keyprefix": {"-prefix=app/"}, "services": nil, "nodes": nil,
		"service": {"-service=web", "-tag=blue"}, "checks": {"-service=web"}, "event": {"-name=go"},
	}
	f.Write("handler", "#!/bin/sh\necho \"$CONSUL_INDEX $(cat)\" >>\"$1\"\n")
	f.Write("theirs", fmt.Sprintf("#!/bin/sh\nexec %q watch \"$@\"\n", consul))
	for kind, flags := range types {
		flags = append([]string{"-type=" + kind}, flags...)
		f.Run("watch", append(flags, "./handler", "ours."+kind)...)
		f.Run(f.File("theirs"), append(flags, "./handler theirs."+kind)...)
	}
	last := func(name string) string {
		lines := strings.Split(strings.TrimRight(f.Read(name), "\n"), "\n")
		return lines[len(lines)-1]
	}
	withIndex := false
	same := func(what string, parts map[string]string) {
		t.Helper()
		for kind, part := range parts {
			harness.Until(t, what+": both handlers of "+kind+" have got the same", func(context.Context) error {
				ours, theirs := last("ours."+kind), last("theirs."+kind)
				if !withIndex {
					_, ours, _ = strings.Cut(ours, " ")
					_, theirs, _ = strings.Cut(theirs, " ")
				}
				if ours != theirs || !strings.Contains(ours, part) {
					return fmt.Errorf("ours   %s\ntheirs %s\nwant   %s", ours, theirs, part)
				}
				return nil
			})
		}
	}
	// The agent has just begun: what it says of things that are not there has a higher
	// index at each change of others, and they do not begin to watch together.
	same("at the start", map[string]string{
		"key": "null", "keyprefix": "", "services": `"consul":[]`, "nodes": `"theirs"`, "service": "[]", "checks": "[]", "event": "[]",
	})
	withIndex = true
	change("/v1/kv/app/k?flags=7", "one <&> ü")
	change("/v1/agent/service/register", `{"Name": "web", "ID": "web1", "Port": 80, "Tags": ["blue"], "Meta": {"a": "b"}, "Check": {"TTL": "1h", "Notes": "n"}}`)
	change("/v1/catalog/register", `{"Node": "outside", "Address": "192.0.2.1", "NodeMeta": {"x": "y"}}`)
	change("/v1/event/fire/other", "")
	change("/v1/event/fire/go", "now")
	same("what is new", map[string]string{
		"key": `"Flags":7`, "keyprefix": `"Flags":7`, "services": `"web":["blue"]`, "nodes": `"outside"`,
		"service": `"critical"`, "checks": `"critical"`, "event": `"Payload":"bm93"`,
	})
	change("/v1/kv/app/k", "two")
	change("/v1/kv/app/l", "")
	change("/v1/agent/check/pass/service:web1", "")
	change("/v1/event/fire/go?node=their", "again")
	change("/v1/agent/service/register", `{"Name": "db"}`)
	change("/v1/catalog/deregister", `{"Node": "outside"}`)
	same("what has changed", map[string]string{
		"key": `"Value":"dHdv"`, "keyprefix": `"app/l"`, "services": `"db":[]`, "nodes": `"theirs"`,
		"service": `"passing"`, "checks": `"passing"`, "event": `"NodeFilter":"their"`,
	})
	if strings.Contains(last("ours.nodes"), "outside") || strings.Contains(f.Read("ours.event"), "other") {
		t.Errorf("nodes %s\nevents %s", last("ours.nodes"), f.Read("ours.event"))
	}
}

// A change of keys or services at an agent of the reference's restarts the child, once,
// with the new environment.
func TestEnvexecBesideConsul(t *testing.T) {
	_, f, change := besideConsul(t)
	change("/v1/kv/app/colour", "red")
	change("/v1/kv/application/colour", "no prefix of it")
	f.Write("server", "#!/bin/sh\ntrap 'exit 0' INT\necho \"$colour $WEB1 $(env | grep -ci colour)\" >>out\nwhile :; do sleep 0.02; done\n")
	change("/v1/agent/service/register", `{"Name": "web", "ID": "web1", "Port": 80}`)
	f.Run("envexec", "-prefix", "app", "-service-query", "web", "-service-format-port", "WEB1", "./server")
	f.AwaitText("out", "red 80 1\n")
	change("/v1/kv/app/colour", "blue")
	f.AwaitText("out", "red 80 1\nblue 80 1\n")
	change("/v1/kv/application/colour", "still none")
	change("/v1/kv/app/colour", "blue") // nothing new
	change("/v1/agent/service/register", `{"Name": "web", "ID": "web1", "Port": 81}`)
	f.AwaitText("out", "red 80 1\nblue 80 1\nblue 81 1\n")
	code, text, errs := f.Once("envexec", "print", "-prefix", "app", "-o", "dotenv")
	if code != 0 || text != "colour='blue'\n" {
		t.Errorf("print: %d, %q, %s", code, text, errs)
	}
}
