package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

func TestUnknownConfigKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		text string
		say  []string
	}{
		"a.json": {`{"datacentre": "dc1"}`, []string{`invalid config key datacentre`, "datacenter"}},
		"b.hcl":  {"ports {\n  htpp = 8500\n}\n", []string{`htpp`, "http"}},
		"c.yaml": {"dns_config:\n  udp_answer_limits: 3\n", []string{`udp_answer_limits`, "udp_answer_limit"}},
		"d.toml": {"[autopilot]\nclean_dead_servers = true\n", []string{`clean_dead_servers`, "cleanup_dead_servers"}},
		"e.json": {`{"service": {"name": "web", "prot": 80}}`, []string{`prot`, "port"}},
		"f.json": {`{"server": tru}`, nil},
		"g.hcl":  {`server = "`, nil},
		"h.yaml": {"a: [", nil},
		"i.toml": {"a = = 1", nil},
		"j.json": {`{"ports": {"http": "eighty"}}`, []string{"ports.http"}},
		"k.json": {`{"retry_interval": "soon"}`, []string{"retry_interval"}},
		"l.json": {`{"node_meta": {"bad key": "x"}}`, nil},
	} {
		path := writeFile(t, filepath.Join(dir, name), tc.text)
		text := refused(t, "-dev", "-config-file="+path)
		if name != "l.json" { // about the whole, not about the file
			mentions(t, text, path)
		}
		mentions(t, text, tc.say...)
		if strings.Contains(text, "panic") || strings.Contains(text, "goroutine") {
			t.Errorf("%s: %s", name, text)
		}
	}
	mentions(t, refused(t, "-dev", "-config-file="+dir+"/none.json"), dir+"/none.json")
	mentions(t, refused(t, "-dev", "-config-file="+writeFile(t, dir+"/x.ini", "")), dir+"/x.ini", "unknown extension")
	mentions(t, refused(t, "-dev", "-hcl=prots {}"), "prots", "ports")
	mentions(t, refused(t, "-bind=127.0.0.1"), "data_dir cannot be empty")
	mentions(t, refused(t, "-dev", "-hcl=auto_encrypt { tls = true }"), "auto_encrypt.tls", "not built yet")
	mentions(t, refused(t, "-dev", "-hcl=verify_incoming = true"), "verify_incoming", "CA")
	mentions(t, refused(t, "-dev", "-https-port=8501"), "ports.https", "not built yet")
	mentions(t, refused(t, "-dev", "-no-such-flag"), "no-such-flag")
	mentions(t, refused(t, "-dev", "surplus"), "surplus")
}

// Keys of what muster leaves out are accepted with one warning that names them.
func TestKeysOutOfScope(t *testing.T) {
	c := harness.New(t)
	path := writeFile(t, filepath.Join(c.Dir, "mesh.hcl"), `
		connect { enabled = true, ca_config { cluster_id = "x" } }
		peering { enabled = true }
		segments = [{ name = "a", bind = "127.0.0.1", port = 1 }]
		config_entries { bootstrap = [{ kind = "proxy-defaults", name = "global" }] }
		ports { grpc = 8502, grpc_tls = 8503, sidecar_min_port = 21000 }
		partition = "p"
		license_path = "/x"
		experiments = ["v2"]
		service { name = "web", port = 80, connect { sidecar_service {} } }
	`)
	a := c.Add("s1", true, "-bootstrap-expect=1", "-config-file="+path)
	serves(a)
	log, err := os.ReadFile(a.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "have no effect"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "have no effect") {
			mentions(t, line, "connect", "peering", "segments", "config_entries", "ports.grpc", "partition")
		}
	}
	harness.Within(t, 10*time.Second, "the service", func(ctx context.Context) error { return wantInstances(ctx, a, "web", 1) })
}

// One configuration, written in four formats, spread over a directory, and given
// as a fragment, makes the same agent each time.
func TestFormatsGiveTheSameAgent(t *testing.T) {
	c := harness.New(t)
	const asJSON = `{"datacenter": "east", "node_id": "11111111-2222-3333-4444-555555555555", "log_level": "WARN", "node_meta": {"rackNo": "7"},
		"ports": {"serf_lan": 9301, "dns": -1}, "http_config": {"response_headers": {"X-Where": "east"}}, "retry_interval": "7s",
		"services": [{"name": "web", "port": 80, "tags": ["a", "b"], "meta": {"CamelCase": "kept"},
			"check": {"id": "ttl", "ttl": "1h", "status": "passing"}}, {"id": "db1", "name": "db", "port": 5432}],
		"check": {"name": "disk", "args": ["true"], "interval": "1h", "status": "warning"}, "enable_local_script_checks": true}`
	const asHCL = `datacenter = "east"
		node_id = "11111111-2222-3333-4444-555555555555"
		log_level = "WARN"
		node_meta { rackNo = "7" }
		ports { serf_lan = 9301, dns = -1 }
		http_config { response_headers { X-Where = "east" } }
		retry_interval = "7s"
		service { name = "web", port = 80, tags = ["a", "b"], meta { CamelCase = "kept" }
			check { id = "ttl", ttl = "1h", status = "passing" } }
		service { id = "db1", name = "db", port = 5432 }
		check { name = "disk", args = ["true"], interval = "1h", status = "warning" }
		enable_local_script_checks = true`
	const asYAML = `
datacenter: east
node_id: 11111111-2222-3333-4444-555555555555
log_level: WARN
node_meta: {rackNo: "7"}
ports: {serf_lan: 9301, dns: -1}
http_config: {response_headers: {X-Where: east}}
retry_interval: 7s
services:
- {name: web, port: 80, tags: [a, b], meta: {CamelCase: kept}, check: {id: ttl, ttl: 1h, status: passing}}
- {id: db1, name: db, port: 5432}
check: {name: disk, args: ["true"], interval: 1h, status: warning}
enable_local_script_checks: true
`
	const asTOML = `
datacenter = "east"
node_id = "11111111-2222-3333-4444-555555555555"
log_level = "WARN"
retry_interval = "7s"
enable_local_script_checks = true
[node_meta]
rackNo = "7"
[ports]
serf_lan = 9301
dns = -1
[http_config.response_headers]
X-Where = "east"
[[services]]
name = "web"
port = 80
tags = ["a", "b"]
[services.meta]
CamelCase = "kept"
[services.check]
id = "ttl"
ttl = "1h"
status = "passing"
[[services]]
id = "db1"
name = "db"
port = 5432
[check]
name = "disk"
args = ["true"]
interval = "1h"
status = "warning"
`
	dir := filepath.Join(c.Dir, "conf.d")
	writeFile(t, dir+"/10-base.json", `{"datacenter": "west", "node_id": "11111111-2222-3333-4444-555555555555", "node_meta": {"rackNo": "7"}, "retry_interval": "7s",
		"ports": {"dns": -1, "serf_lan": 1}, "service": {"name": "web", "port": 80, "tags": ["a", "b"], "meta": {"CamelCase": "kept"}, "check": {"id": "ttl", "ttl": "1h", "status": "passing"}}}`)
	writeFile(t, dir+"/20-more.hcl", `datacenter = "east" log_level = "WARN" ports { serf_lan = 9301 } service { id = "db1", name = "db", port = 5432 }`)
	writeFile(t, dir+"/30-rest.json", `{"http_config": {"response_headers": {"X-Where": "east"}}, "enable_local_script_checks": true,
		"checks": [{"name": "disk", "args": ["true"], "interval": "1h", "status": "warning"}]}`)
	file := func(name, text string) string {
		return "-config-file=" + writeFile(t, filepath.Join(c.Dir, name), text)
	}
	var want string
	for _, variant := range [][]string{
		{file("a.json", asJSON)}, {file("a.hcl", asHCL)}, {file("a.yaml", asYAML)}, {file("a.toml", asTOML)},
		{"-config-dir=" + dir}, {"-hcl=" + asHCL},
		{"-config-format=yaml", file("a.conf", asYAML)}, {"--config-file", filepath.Join(c.Dir, "a.json")},
	} {
		a := c.Add("n1", true)
		a.IP = c.Net + ".1"
		a.Flags = append([]string{"-server", "-bootstrap", "-bind=" + a.IP, "-client=" + a.IP, "-node=n1",
			"-data-dir=" + filepath.Join(c.Dir, strconv.Itoa(len(c.Agents)))}, variant...)
		got := describe(a)
		if want == "" {
			want = got
			mentions(t, got, `"rackNo":"7"`, `"CamelCase":"kept"`, `"X-Where":["east"]`, `"east"`, `"WARN"`, `9301`, `"db1"`, `"disk"`)
		}
		if got != want {
			t.Errorf("%.60q makes another agent:\ngot  %s\nwant %s", variant, got, want)
		}
	}
}

// describe starts an agent, takes down what it is, and kills it.
func describe(a *agent) string {
	a.C.T.Helper()
	api, err := client.New(client.Config{Address: a.IP + ":8500"})
	if err != nil {
		a.C.T.Fatal(err)
	}
	defer api.CloseIdle()
	a.Start()
	defer a.Kill()
	var self struct {
		Config      map[string]any
		DebugConfig map[string]any
		Meta        map[string]string
	}
	harness.Within(a.C.T, 20*time.Second, "the agent serves", func(ctx context.Context) error {
		_, err := api.Get(ctx, "/v1/agent/self", nil, &self)
		return err
	})
	delete(self.DebugConfig, "DataDir")
	var services, checks any
	for path, out := range map[string]any{"/v1/agent/services": &services, "/v1/agent/checks": &checks} {
		if _, err := api.Get(a.C.T.Context(), path, nil, out); err != nil {
			a.C.T.Fatal(err)
		}
	}
	header, err := header(a, "X-Where")
	if err != nil {
		a.C.T.Fatal(err)
	}
	text, err := json.Marshal([]any{self, services, checks, json.RawMessage(header)})
	if err != nil {
		a.C.T.Fatal(err)
	}
	return string(text)
}

// A reload adds and removes what the files name, keeps the state of everything
// else, and does nothing at all if a file is bad.
func TestReload(t *testing.T) {
	c := harness.New(t)
	dir := filepath.Join(c.Dir, "conf.d")
	stays := writeFile(t, dir+"/stays.json", `{"service": {"name": "stays", "port": 1, "check": {"id": "stays", "ttl": "1h"}}}`)
	goes := writeFile(t, dir+"/goes.hcl", `service { name = "goes", port = 2 }`)
	a := c.Add("s1", true, "-bootstrap-expect=1", "-config-dir="+dir)
	serves(a)
	a.Register("http", "http-1")
	if got := ask(a, "PUT", "/v1/agent/check/pass/stays", ""); got.code != 200 {
		t.Fatal(got)
	}
	checkIs(a, "stays", api.HealthPassing)
	harness.Within(t, 10*time.Second, "goes is there", func(ctx context.Context) error { return wantInstances(ctx, a, "goes", 1) })
	settle(c)
	before := serviceIndex(a, "stays", "http")

	writeFile(t, dir+"/new.yaml", "service: {name: new, port: 3}\n")
	if err := os.Remove(goes); err != nil {
		t.Fatal(err)
	}
	a.Signal(syscall.SIGHUP)
	harness.Within(t, 10*time.Second, "new is there and goes is not", func(ctx context.Context) error {
		return errors.Join(wantInstances(ctx, a, "new", 1), wantInstances(ctx, a, "goes", 0))
	})
	if after := serviceIndex(a, "stays", "http"); after != before {
		t.Errorf("what stays was written again: %s, then %s", before, after)
	}
	if ch := localCheck(a, "stays"); ch.Status != api.HealthPassing {
		t.Errorf("the check of what stays is %s", ch.Status)
	}

	all := everything(a)
	for i, bad := range []string{
		`{"service": {"name": "stays", "prot": 1}}`, `{`, `{"service": {"port": 1}}`,
		`{"service": {"name": "stays", "port": 9, "check": {"interval": "1s"}}}`,
		`{"services": [{"name": "more"}], "check": {"name": "x", "ttl": "1s", "service_id": "none"}}`,
	} {
		writeFile(t, stays, bad)
		if got := ask(a, "PUT", "/v1/agent/reload", ""); got.code != 500 || got.body == "" {
			t.Errorf("%s: %+v", bad, got)
		}
		a.Signal(syscall.SIGHUP)
		harness.Within(t, 10*time.Second, "the log says so", func(context.Context) error {
			log, err := os.ReadFile(a.LogPath())
			if n := strings.Count(string(log), "reload failed"); err == nil && n != i+1 {
				err = fmt.Errorf("%d times so far", n)
			}
			return err
		})
		if after := everything(a); after != all {
			t.Fatalf("the bad configuration %s changed something:\n%s\n%s", bad, all, after)
		}
	}
}

// serviceIndex is when these services were written last.
func serviceIndex(a *agent, names ...string) string {
	a.C.T.Helper()
	var out []string
	for _, name := range names {
		nodes, _, err := a.ServiceNodes(a.C.T.Context(), name, nil)
		if err != nil || len(nodes) != 1 {
			a.C.T.Fatalf("%s: %+v, %v", name, nodes, err)
		}
		out = append(out, fmt.Sprint(nodes[0].ModifyIndex))
	}
	return strings.Join(out, " ")
}

func TestPortsThatAreOff(t *testing.T) {
	c := harness.New(t)
	c.Launch(1, 0)
	a := c.Add("c1", false, "-http-port=-1", "-dns-port=-1", "-hcl=ports { https = -1, grpc = -1 }")
	a.Start()
	c.Agents[0].AwaitStatus("c1", api.HealthPassing)
	for _, port := range []string{"8500", "8600", "8300", "8501", "8502"} {
		if conn, err := net.Dial("tcp", a.IP+":"+port); err == nil {
			_ = conn.Close()
			t.Errorf("port %s is open", port)
		}
	}
	conn, err := net.ListenPacket("udp", a.IP+":8600")
	if err != nil {
		t.Errorf("the DNS port is taken: %v", err)
	} else {
		_ = conn.Close()
	}
}

// Two servers on one address, told apart by their ports, and clients from
// everywhere.
func TestOneAddressManyPorts(t *testing.T) {
	c := harness.New(t)
	var ports [2][4]string
	for i := range ports {
		for j := range ports[i] {
			ports[i][j] = strconv.Itoa(harness.Port(t))
		}
	}
	for i, p := range ports {
		a := c.Add(fmt.Sprintf("s%d", i+1), true, "-bootstrap-expect=2")
		a.Flags = append(a.Flags, "-bind="+c.Net+".1", "-client=0.0.0.0", "-http-port="+p[0], "-dns-port="+p[1], "-serf-lan-port="+p[2], "-server-port="+p[3],
			"-retry-join="+c.Net+".1:"+ports[1-i][2])
		a.CloseIdle()
		var err error
		if a.Client, err = client.New(client.Config{Address: "127.0.0.1:" + p[0]}); err != nil {
			t.Fatal(err)
		}
		a.Start()
	}
	c.AwaitReady()
	c.Agents[0].PutKey("from", "s1")
	if got := c.Agents[1].GetKey("from", nil); got != "s1" {
		t.Errorf("s2 reads %q", got)
	}
	nodes, _, err := c.Agents[0].ServiceNodes(t.Context(), "consul", nil)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%+v, %v", nodes, err)
	}
	for i, n := range nodes {
		if n.Address != c.Net+".1" || strconv.Itoa(n.ServicePort) != ports[i][3] {
			t.Errorf("%s:%d", n.Address, n.ServicePort)
		}
	}
	// Any address of the machine reaches HTTP and DNS.
	for _, addr := range []string{"127.0.0.1:" + ports[0][0], c.Net + ".7:" + ports[0][0], "127.0.0.1:" + ports[1][1]} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = conn.Close()
	}
}
