package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// local keeps a test off the addresses of the machine that it runs on.
func local(more map[string]any) map[string]any {
	flags := map[string]any{"bind_addr": "127.0.0.1", "data_dir": "/var/lib/muster-test", "node_name": "n1"}
	for k, v := range more {
		flags[k] = v
	}
	return flags
}

func mustLoad(t *testing.T, src Sources) (*Config, []string) {
	t.Helper()
	cfg, warnings, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, warnings
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	cfg, warnings := mustLoad(t, Sources{Flags: local(nil)})
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	for _, c := range []struct {
		key       string
		got, want any
	}{
		{"server", cfg.Server, false},
		{"datacenter", cfg.Datacenter, "dc1"},
		{"primary_datacenter", cfg.PrimaryDatacenter, "dc1"},
		{"ports", cfg.Ports, Ports{DNS: 8600, HTTP: 8500, HTTPS: -1, GRPC: -1, GRPCTLS: -1, SerfLAN: 8301, SerfWAN: 8302, Server: 8300}},
		{"raft_multiplier", cfg.Performance.RaftMultiplier, 1},
		{"leader_probe", cfg.Performance.LeaderProbe, true},
		{"leave_drain_time", cfg.Performance.LeaveDrainTime, 100 * time.Millisecond},
		{"rpc_hold_timeout", cfg.Performance.RPCHoldTimeout, 7 * time.Second},
		{"gossip_lan", cfg.GossipLAN, Gossip{3, 100 * time.Millisecond, 300 * time.Millisecond, 150 * time.Millisecond, 6, 8}},
		{"enable_truncate", cfg.DNS.EnableTruncate, true},
		{"udp_answer_limit", cfg.DNS.UDPAnswerLimit, 3},
		{"soa", cfg.DNS.SOA, SOA{3600, 600, 86400, 0}},
		{"domain", cfg.Domain, "consul."},
		{"leave_on_terminate", cfg.LeaveOnTerminate, true},
		{"skip_leave_on_interrupt", cfg.SkipLeaveOnInterrupt, false},
		{"disable_remote_exec", cfg.DisableRemoteExec, true},
		{"encrypt_verify_incoming", cfg.EncryptVerifyIncoming, true},
		{"retry_interval", cfg.RetryInterval, 30 * time.Second},
		{"reconnect_timeout", cfg.ReconnectTimeout, 72 * time.Hour},
		{"check_update_interval", cfg.CheckUpdateInterval, 5 * time.Minute},
		{"check_output_max_size", cfg.CheckOutputMaxSize, 4096},
		{"autopilot", cfg.Autopilot, Autopilot{CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond, MaxTrailingLogs: 250, ServerStabilizationTime: 10 * time.Second}},
		{"raft", []any{cfg.RaftProtocol, cfg.RaftSnapshotThreshold, cfg.RaftSnapshotInterval, cfg.RaftTrailingLogs}, []any{3, 16384, 30 * time.Second, 10240}},
		{"limits.kv", cfg.Limits.KVMaxValueSize, 512 * 1024},
		{"query times", []time.Duration{cfg.DefaultQueryTime, cfg.MaxQueryTime}, []time.Duration{5 * time.Minute, 10 * time.Minute}},
		{"log_level", cfg.LogLevel, "INFO"},
		{"listen", cfg.Listen, Listen{HTTP: []string{"127.0.0.1:8500"}, DNS: []string{"127.0.0.1:8600"}}},
		{"bind", []string{cfg.Bind.String(), cfg.SerfBind.String(), cfg.Advertise.String()}, []string{"127.0.0.1", "127.0.0.1", "127.0.0.1"}},
		{"tagged_addresses", cfg.TaggedAddresses, map[string]string{"lan": "127.0.0.1", "wan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan_ipv4": "127.0.0.1"}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.key, c.got, c.want)
		}
	}
}

func TestDevNeedsNothing(t *testing.T) {
	cfg, warnings := mustLoad(t, Sources{Dev: true})
	if len(warnings) > 0 && !strings.Contains(warnings[0], "DNS-safe") {
		t.Errorf("warnings: %q", warnings)
	}
	if !cfg.Dev || !cfg.Server || !cfg.Bootstrap || cfg.DataDir != "" || !cfg.EnableDebug || cfg.LogLevel != "DEBUG" ||
		cfg.Bind.String() != "127.0.0.1" || cfg.LeaveOnTerminate || !cfg.SkipLeaveOnInterrupt || cfg.NodeName == "" {
		t.Errorf("got %+v", cfg)
	}
	if cfg.GossipLAN.ProbeInterval != 100*time.Millisecond || cfg.GossipLAN.SuspicionMult != 3 || cfg.GossipLAN.RetransmitMult != 8 {
		t.Errorf("gossip: %+v", cfg.GossipLAN)
	}
}

func TestPrecedence(t *testing.T) {
	first := writeFile(t, "first.json", `{"log_level": "warn", "datacenter": "a", "retry_join": ["1"], "ports": {"http": 1, "dns": 1}, "node_meta": {"A": "1", "B": "1"}, "server": true}`)
	second := writeFile(t, "second.yaml", "datacenter: b\nretry_join: ['2']\nports: {http: 2, serf_lan: 2}\nnode_meta: {B: '2'}\ndomain: two\n")
	cfg, _ := mustLoad(t, Sources{
		Dev:       true,
		Paths:     []string{first, second},
		Fragments: []string{`domain = "three" ports { http = 3 } retry_join = ["3"]`},
		Flags:     map[string]any{"ports.http": 4, "retry_join": []string{"4"}, "node_meta": map[string]string{"C": "4"}},
	})
	if cfg.Datacenter != "b" || cfg.Domain != "three." || cfg.LogLevel != "warn" || cfg.PrimaryDatacenter != "b" {
		t.Errorf("scalars: %s %s %s %s", cfg.Datacenter, cfg.Domain, cfg.LogLevel, cfg.PrimaryDatacenter)
	}
	if !slices.Equal(cfg.RetryJoin, []string{"1", "2", "3", "4"}) {
		t.Errorf("lists append: %v", cfg.RetryJoin)
	}
	if cfg.Ports.HTTP != 4 || cfg.Ports.DNS != 1 || cfg.Ports.SerfLAN != 2 || cfg.Ports.Server != 8300 {
		t.Errorf("ports: %+v", cfg.Ports)
	}
	if want := map[string]string{"A": "1", "B": "2", "C": "4"}; !reflect.DeepEqual(cfg.NodeMeta, want) {
		t.Errorf("node_meta: %v", cfg.NodeMeta)
	}
	if cfg.GossipLAN.ProbeInterval != 100*time.Millisecond {
		t.Errorf("files must not undo -dev defaults that they do not name: %+v", cfg.GossipLAN)
	}
}

// TestTestutil loads what the official SDK's test server writes.
func TestTestutil(t *testing.T) {
	path := writeFile(t, "config.json", `{
	"node_name": "node-6ba7b810-9dad-11d1-80b4-00c04fd430c8", "node_id": "6BA7B810-9dad-11d1-80b4-00c04fd430c8",
	"performance": {"raft_multiplier": 1}, "bootstrap": true, "server": true, "segments": null, "partition": null,
	"data_dir": "/tmp/consul123", "log_level": "debug", "bind_addr": "127.0.0.1", "addresses": {},
	"ports": {"dns": 1, "http": 2, "https": 3, "serf_lan": 4, "serf_wan": 5, "server": 6, "grpc": 7, "grpc_tls": 8},
	"acl": {"tokens": {}}, "connect": {"enabled": true, "ca_config": {"cluster_id": "11111111-2222-3333-4444-555555555555"}},
	"peering": {"enabled": true}, "version": "1.16.0", "disable_update_check": true, "skip_leave_on_interrupt": true,
	"audit": {"enabled": true}, "autopilot": {"server_stabilization_time": "1s"}, "raft_protocol": 3,
	"locality": {"region": "r"}, "experiments": ["v1dns"], "enable_script_checks": true, "enable_debug": true}`)
	cfg, warnings := mustLoad(t, Sources{Paths: []string{path}})
	if cfg.NodeID != "6ba7b810-9dad-11d1-80b4-00c04fd430c8" || cfg.Ports.Server != 6 || cfg.Ports.HTTPS != 3 || !cfg.EnableLocalScriptChecks {
		t.Errorf("got %+v", cfg)
	}
	want := []string{
		"config: these keys are accepted but have no effect: audit, connect, experiments, locality, peering, ports.grpc, ports.grpc_tls, ports.serf_wan, raft_protocol",
		"bootstrap = true: do not enable unless necessary",
		"ports.https = 3: HTTPS is not built yet: nothing listens on that port",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("got %q", warnings)
	}

	path = writeFile(t, "acl.json", `{"acl": {"enabled": false, "enable_token_replication": true, "policy_ttl": "1s", "token_ttl": "1s", "down_policy": "deny",
		"default_policy": "deny", "enable_key_list_policy": true, "disabled_ttl": "1s",
		"tokens": {"replication": "r", "default": "d", "agent": "a", "master": "m", "agent_master": "am"}}}`)
	cfg, warnings = mustLoad(t, Sources{Paths: []string{path}, Flags: local(nil)})
	if cfg.ACL.Tokens.InitialManagement != "m" || cfg.ACL.Tokens.AgentRecovery != "am" || cfg.ACL.PolicyTTL != time.Second {
		t.Errorf("acl: %+v", cfg.ACL)
	}
	if len(warnings) != 1 || !strings.HasSuffix(warnings[0], ": acl") {
		t.Errorf("got %q", warnings)
	}
}

func TestDeprecatedKeys(t *testing.T) {
	path := writeFile(t, "old.hcl", `start_join = ["a"]
retry_join = ["b"]
ca_file = "/ca" cert_file = "/cert" key_file = "/key"
verify_incoming_rpc = true verify_server_hostname = true
tls { defaults { cert_file = "/new" } }
acl_master_token = "m" acl_default_policy = "deny"
ui = true
`)
	cfg, warnings := mustLoad(t, Sources{Paths: []string{path}, Flags: local(nil)})
	if !slices.Equal(cfg.RetryJoin, []string{"a", "b"}) {
		t.Errorf("retry_join: %v", cfg.RetryJoin)
	}
	if d := cfg.TLS.Defaults; d.CAFile != "/ca" || d.CertFile != "/new" || d.KeyFile != "/key" {
		t.Errorf("tls: %+v", d)
	}
	if i := cfg.TLS.InternalRPC; !i.VerifyIncoming || !i.VerifyServerHostname {
		t.Errorf("internal_rpc: %+v", i)
	}
	if cfg.ACL.Tokens.InitialManagement != "m" || !cfg.UI.Enabled {
		t.Errorf("acl: %+v", cfg.ACL)
	}
	if len(warnings) < 2 || !strings.Contains(warnings[1], "deprecated") || !strings.Contains(warnings[1], "ca_file (use tls.defaults.ca_file)") ||
		!strings.Contains(warnings[1], "start_join (use retry_join)") {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestDefinitions(t *testing.T) {
	yes := true
	want := []*api.AgentServiceRegistration{
		{Name: "web", ID: "web-1", Tags: []string{"v1"}, Port: 80, Address: "10.0.0.1", Meta: map[string]string{"Case": "Kept"}, EnableTagOverride: true,
			Weights: &api.Weights{Passing: 5, Warning: 1}, Token: "t", TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 81}},
			Check: &api.CheckDefinition{CheckID: "c1", HTTP: "http://x/", Interval: api.Duration(10 * time.Second), Header: map[string][]string{"X-A": {"1"}},
				TLSSkipVerify: true, SuccessBeforePassing: 2, DeregisterCriticalServiceAfter: api.Duration(time.Hour)},
			Checks: []*api.CheckDefinition{{ScriptArgs: []string{"/bin/true"}, Interval: api.Duration(time.Second)}, {H2PING: "x:1", H2PingUseTLS: &yes}}},
		{Name: "db"},
	}
	wantChecks := []*api.CheckDefinition{
		{ID: "mem", Name: "mem", TTL: api.Duration(time.Minute), ServiceID: "db"},
		{Name: "disk", TCP: "x:1"},
	}
	for name, text := range map[string]string{
		"a.hcl": `service { id = "web-1" name = "web" tags = ["v1"] port = 80 address = "10.0.0.1" meta { Case = "Kept" } enable_tag_override = true
  weights { passing = 5 } token = "t" tagged_addresses { wan { address = "1.2.3.4" port = 81 } }
  check { id = "c1" http = "http://x/" interval = "10s" header { X-A = ["1"] } tls_skip_verify = true success_before_passing = 2 deregister_critical_service_after = "1h" }
  checks = [ { args = ["/bin/true"] interval = "1s" }, { h2ping = "x:1" h2ping_use_tls = true } ] }
services { name = "db" }
check { id = "mem" ttl = "1m" service_id = "db" }
check { name = "disk" tcp = "x:1" }`,
		"b.json": `{"services": [{"ID": "web-1", "Name": "web", "Tags": ["v1"], "Port": 80, "Address": "10.0.0.1", "Meta": {"Case": "Kept"}, "EnableTagOverride": true,
  "Weights": {"Passing": 5}, "Token": "t", "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 81}},
  "Check": {"CheckID": "c1", "HTTP": "http://x/", "Interval": "10s", "Header": {"X-A": ["1"]}, "TLSSkipVerify": true, "SuccessBeforePassing": 2, "DeregisterCriticalServiceAfter": "1h"},
  "Checks": [{"ScriptArgs": ["/bin/true"], "Interval": "1s"}, {"H2Ping": "x:1", "H2PingUseTLS": true}]}, {"Name": "db"}],
  "checks": [{"ID": "mem", "TTL": "1m", "ServiceID": "db"}], "check": {"Name": "disk", "TCP": "x:1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := mustLoad(t, Sources{Paths: []string{writeFile(t, name, text)}, Flags: local(nil)})
			slices.SortFunc(cfg.Services, func(a, b *api.AgentServiceRegistration) int { return -strings.Compare(a.Name, b.Name) })
			slices.SortFunc(cfg.Checks, func(a, b *api.CheckDefinition) int { return -strings.Compare(a.Name, b.Name) })
			for i := range want {
				if i >= len(cfg.Services) || !reflect.DeepEqual(cfg.Services[i], want[i]) {
					t.Errorf("service %d: got %+v", i, cfg.Services)
				}
			}
			if !reflect.DeepEqual(cfg.Checks, wantChecks) {
				t.Errorf("checks: got %+v %+v", cfg.Checks[0], cfg.Checks[1])
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		file  string // JSON
		flags map[string]any
		src   Sources
		want  string
	}{
		"no data_dir":       {flags: map[string]any{"data_dir": ""}, want: "data_dir cannot be empty"},
		"unknown":           {file: `{"data_dri": "x"}`, want: "x.json: invalid config key data_dri (did you mean data_dir?)"},
		"unknown in a list": {file: `{"services": [{"name": "a", "prot": 1}]}`, want: "invalid config key services[0].prot (did you mean services[0].port?)"},
		"unknown in acl":    {file: `{"acl": {"tokens": {"agnet": ""}}}`, want: "invalid config key acl.tokens.agnet (did you mean acl.tokens.agent?)"},
		"unknown flag":      {flags: map[string]any{"ports.htpp": 1}, want: "failed to parse flags: invalid config key ports.htpp"},
		"unknown fragment":  {src: Sources{Fragments: []string{`sever = true`}}, want: "failed to parse -hcl: invalid config key sever (did you mean server?)"},
		"format":            {src: Sources{Format: "ini"}, want: "config: -config-format must be either 'hcl' or 'json'"},
		"type":              {file: `{"ports": {"http": "many"}}`, want: "x.json: ports.http: a whole number is needed here"},
		"node name":         {flags: map[string]any{"node_name": " "}, want: "node_name cannot be empty"},
		"node id":           {flags: map[string]any{"node_id": "7"}, want: `node_id "7" is not a UUID`},
		"datacenter":        {flags: map[string]any{"datacenter": "a b"}, want: `datacenter "a b" is invalid`},
		"expect client":     {flags: map[string]any{"bootstrap_expect": 3}, want: "'bootstrap_expect > 0' requires 'server = true'"},
		"expect both":       {flags: map[string]any{"bootstrap_expect": 3, "bootstrap": true, "server": true}, want: "mutually exclusive"},
		"expect negative":   {flags: map[string]any{"bootstrap_expect": -3, "server": true}, want: "bootstrap_expect cannot be -3"},
		"bootstrap client":  {flags: map[string]any{"bootstrap": true}, want: "'bootstrap = true' requires 'server = true'"},
		"multiplier":        {flags: map[string]any{"performance.raft_multiplier": 11}, want: "performance.raft_multiplier cannot be 11. Must be between 1 and 10"},
		"port":              {flags: map[string]any{"ports.http": 65536}, want: "ports.http cannot be 65536"},
		"server port off":   {flags: map[string]any{"ports.server": -1, "server": true}, want: "ports.server cannot be off"},
		"encrypt":           {flags: map[string]any{"encrypt": "not base64!"}, want: "encrypt: the gossip key is not base64"},
		"encrypt length":    {flags: map[string]any{"encrypt": "QUJD"}, want: "encrypt: the gossip key has 3 bytes"},
		"bind":              {flags: map[string]any{"bind_addr": "host"}, want: `bind_addr: "host" is not an IP address`},
		"bind two":          {flags: map[string]any{"bind_addr": "127.0.0.1 127.0.0.2"}, want: "bind_addr: one IP address is needed"},
		"bind template":     {flags: map[string]any{"bind_addr": "{{ nothing }}"}, want: "bind_addr: evaluate"},
		"advertise":         {flags: map[string]any{"advertise_addr": "0.0.0.0"}, want: "advertise_addr cannot be 0.0.0.0"},
		"client":            {flags: map[string]any{"client_addr": "127.0.0.1 nope"}, want: `client_addr: "nope" is not an IP address`},
		"dns socket":        {flags: map[string]any{"addresses.dns": "unix:///x"}, want: "DNS cannot listen on the socket"},
		"meta key":          {file: `{"node_meta": {"a b": "x"}}`, want: `node_meta key "a b" is invalid`},
		"meta reserved":     {file: `{"node_meta": {"consul-x": "x"}}`, want: "reserved"},
		"meta value":        {file: `{"node_meta": {"a": "` + strings.Repeat("x", 513) + `"}}`, want: `node_meta value of "a" is longer than 512`},
		"alt domain":        {flags: map[string]any{"alt_domain": "dc1.example"}, want: "alt_domain cannot start with"},
		"strategy":          {flags: map[string]any{"dns_config.recursor_strategy": "best"}, want: "recursor_strategy"},
		"recursor itself":   {flags: map[string]any{"recursors": []string{"127.0.0.1:8600"}}, want: "recursors: 127.0.0.1:8600 is this agent itself"},
		"deprecated ttl":    {file: `{"acl_ttl": "long"}`, want: `x.json: acl_ttl: "long" is not a duration`},
		"recursor":          {flags: map[string]any{"recursors": []string{"dns.example"}}, want: `recursors: "dns.example" is not an IP address`},
		"short":             {flags: map[string]any{"gossip_lan.probe_interval": "1us"}, want: "gossip_lan.probe_interval cannot be 1µs. Must be greater than or equal to 1ms"},
		"negative":          {flags: map[string]any{"dns_config.udp_answer_limit": -1}, want: "dns_config.udp_answer_limit cannot be -1. Must be greater than or equal to 0"},
		"log level":         {flags: map[string]any{"log_level": "loud"}, want: `log_level "loud" is invalid`},
		"zero interval":     {flags: map[string]any{"gossip_lan.gossip_interval": "0s"}, want: "gossip_lan.gossip_interval cannot be 0s"},
		"key without cert":  {flags: map[string]any{"tls.defaults.key_file": "/k"}, want: "cert_file and key_file must be set together"},
		"no service name":   {file: `{"services": [{"name": "a"}, {"id": "x"}]}`, want: "services[1]: the service has no name"},
		"no check name":     {file: `{"check": {"ttl": "1s"}}`, want: "checks[0]: the check has neither a name nor an id"},
		"socket mode":       {file: `{"unix_sockets": {"mode": "rwx"}}`, want: `unix_sockets.mode "rwx"`},
		"write networks":    {file: `{"http_config": {"allow_write_http_from": ["home"]}}`, want: `"home" is not a network`},
		"cloud join":        {flags: map[string]any{"retry_join": []string{"provider=aws tag_key=a"}}, want: "retry_join: \"provider=aws tag_key=a\""},
		"https flag":        {flags: map[string]any{"ports.https": 8501}, want: "ports.https is not built yet in this version: -https-port"},
		"acl datacenter":    {file: `{"acl_datacenter": "dc9"}`, want: "acl.enabled (or acl_datacenter) is not built yet"},
		"old ca_path":       {file: `{"ca_path": "/etc/ca"}`, want: "tls.defaults.ca_path (or ca_path) is not built yet"},
		"verify, no CA":     {file: `{"verify_incoming": true}`, want: "tls.defaults.verify_incoming (or verify_incoming) is set, but no CA to verify with"},
		"CA alone":          {file: `{"verify_incoming": true, "ca_file": "/ca"}`, want: "go together"},
		"certificate alone": {file: `{"cert_file": "/c", "key_file": "/k"}`, want: "go together"},
		"TLS version":       {file: `{"tls": {"internal_rpc": {"tls_min_version": "TLSv9"}}}`, want: `tls.internal_rpc.tls_min_version "TLSv9" is invalid`},
		"https with a cert": {file: `{"ports": {"https": 8501}, "tls": {"https": {"cert_file": "/c"}}}`, want: "ports.https is not built yet"},
		"dev expect":        {src: Sources{Dev: true}, flags: map[string]any{"bootstrap_expect": 3}, want: "cannot be used with -dev"},
	} {
		t.Run(name, func(t *testing.T) {
			src := c.src
			src.Flags = local(c.flags)
			if c.file != "" {
				src.Paths = []string{writeFile(t, "x.json", c.file)}
			}
			_, _, err := Load(src)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.json": `{"telemetry": {"statsd_address": "x"}}`, "README": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, warnings := mustLoad(t, Sources{Paths: []string{dir}, Flags: local(map[string]any{
		"server": true, "bootstrap_expect": 2, "node_name": "under_score", "reconnect_timeout": "1h", "ui_config.enabled": true})})
	for i, want := range []string{"no effect: telemetry.statsd_address, ui_config", "skipped", "bootstrap_expect = 2", "reconnect_timeout", "DNS-safe"} {
		if i >= len(warnings) || !strings.Contains(warnings[i], want) {
			t.Fatalf("warning %d: got %q, want %q", i, warnings, want)
		}
	}
	if len(warnings) != 5 {
		t.Errorf("got %d warnings: %q", len(warnings), warnings)
	}
}

// TestEveryKeyOfDefaultsExists: a typing mistake in a default must not pass.
func TestEveryKeyOfDefaultsExists(t *testing.T) {
	for name, m := range map[string]map[string]any{"defaults": defaults(), "dev": devDefaults(), "derived": derive(defaults())} {
		var in sources
		if err := in.add(name, m); err != nil {
			t.Error(err)
		}
	}
	for _, mv := range moves() {
		for _, path := range []string{mv.from, mv.to} {
			var in sources
			if err := in.add("move", nest(path, nil)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestNotReloadable(t *testing.T) {
	a, _ := mustLoad(t, Sources{Flags: local(nil)})
	b, _ := mustLoad(t, Sources{Flags: local(map[string]any{"log_level": "debug", "dns_config.node_ttl": "1s", "node_meta": map[string]string{"a": "b"},
		"discard_check_output": true, "limits.http_max_conns_per_client": 7})})
	if got := NotReloadable(a, b); len(got) != 0 {
		t.Errorf("all of these can be reloaded: %v", got)
	}
	c, _ := mustLoad(t, Sources{Flags: local(map[string]any{"ports.http": 1, "data_dir": "/elsewhere", "server": true, "encrypt": "AAAAAAAAAAAAAAAAAAAAAA=="})})
	got := NotReloadable(a, c)
	for _, want := range []string{"ports.http", "data_dir", "server", "encrypt"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
}
