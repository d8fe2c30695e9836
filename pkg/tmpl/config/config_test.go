package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/watch"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, src settings.Sources) *Config {
	t.Helper()
	files, _, err := Read(src)
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := conf.Decode(files, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// One template, said in each of the formats, is the same template.
func TestFormats(t *testing.T) {
	yes := true
	want := tmpl.Template{
		Source: "a", Destination: "b", Command: "run\x00it", CommandTimeout: 5 * time.Second,
		Perms: 0o640 | fs.ModeSetgid, User: "0", Group: "daemon", Backup: true, NoDirs: true,
		LeftDelim: "<<", RightDelim: ">>", ErrorOnMissingKey: true, ErrorFatal: &yes,
		Denylist: []string{"env", "plugin"}, SandboxPath: "/s",
		Wait: &watch.Wait{Min: time.Second, Max: 2 * time.Second}, Check: "check {path}",
	}
	for name, text := range map[string]string{
		"c.hcl": `default_delimiters { left = "<<" right = ">>" }
template { source = "a" destination = "b" command = ["run", "it"] command_timeout = "5s" perms = 02640 uid = 0 group = "daemon"
  backup = true create_dest_dirs = false error_on_missing_key = true error_fatal = true function_blacklist = ["env", "plugin"]
  sandbox_path = "/s" wait { min = "1s" max = "2s" } check = "check {path}" }`,
		"c.conf": `template { source = "a" destination = "b" exec { command = ["run", "it"] timeout = "5s" } perms = "2640" uid = 0 group = "daemon"
  backup = true create_dest_dirs = false error_on_missing_key = true function_denylist = ["env", "plugin"]
  left_delimiter = "<<" right_delimiter = ">>" sandbox_path = "/s" wait = "1s:2s" check = "check {path}" }
template_error_fatal = true`,
		"c.json": `{"default_delimiters": {"left": "<<", "right": ">>"}, "template": {"source": "a", "destination": "b", "command": ["run", "it"],
  "command_timeout": "5s", "perms": "02640", "user": "0", "group": "daemon", "backup": true, "create_dest_dirs": false,
  "error_on_missing_key": true, "error_fatal": true, "function_denylist": ["env", "plugin"], "sandbox_path": "/s",
  "wait": {"min": "1s", "max": "2s"}, "check": "check {path}"}}`,
		"c.yaml": `template: [{source: a, destination: b, command: [run, it], command_timeout: 5s, perms: 02640, user: 0, group: daemon, backup: true,
  create_dest_dirs: false, error_on_missing_key: true, error_fatal: true, function_denylist: [env, plugin], sandbox_path: /s,
  left_delimiter: "<<", right_delimiter: ">>", wait: "1s:2s", check: "check {path}"}]`,
		"c.toml": `[[template]]
source = "a"
destination = "b"
command = ["run", "it"]
command_timeout = "5s"
perms = 0o2640
uid = 0
group = "daemon"
backup = true
create_dest_dirs = false
error_on_missing_key = true
error_fatal = true
function_denylist = ["env", "plugin"]
sandbox_path = "/s"
left_delimiter = "<<"
right_delimiter = ">>"
wait = "1s:2s"
check = "check {path}"`,
	} {
		got, err := load(t, settings.Sources{Paths: []string{write(t, name, text)}}).Specs(nil, nil)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
}

// Scalars override, templates append, and a command is one value.
func TestMerge(t *testing.T) {
	one := write(t, "1.hcl", `max_stale = "1s" exec { command = ["a", "b"] splay = "1s" env { custom = ["X=1"] } } template { contents = "x" destination = "1" } wait { min = "1s" }`)
	two := write(t, "2.hcl", `max_stale = "2s" exec { command = ["c"] env { custom = ["X=2"] } } template { contents = "x" destination = "2" } wait { max = "9s" }`)
	c := load(t, settings.Sources{
		Paths: []string{one, two}, Inline: `kill_signal = 15 exec { splay = "3s" } template { source = "3" destination = "3" }`,
	})
	specs, err := c.Specs(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var destinations []string
	for _, s := range specs {
		destinations = append(destinations, s.Destination)
	}
	if got := strings.Join(destinations, " "); got != "1 2 3" {
		t.Errorf("templates %s", got)
	}
	if got := c.Exec.Words(); !reflect.DeepEqual(got, []string{"c"}) {
		t.Errorf("command %q", got)
	}
	if c.MaxStale != 2*time.Second || c.Exec.Splay != 3*time.Second || *c.KillSignal != "15" {
		t.Errorf("max_stale %s, splay %s, kill_signal %s", c.MaxStale, c.Exec.Splay, *c.KillSignal)
	}
	if w := c.Wait(); w != (watch.Wait{Min: time.Second, Max: 9 * time.Second}) {
		t.Errorf("wait %+v", w)
	}
	if env, err := c.Exec.Env.Build([]string{"A=1"}, []string{"B=2"}); err != nil || strings.Join(env, " ") != "A=1 B=2 X=2" {
		t.Errorf("environment %v, %v", env, err)
	}
}

func TestRetry(t *testing.T) {
	for text, want := range map[string]watch.Retry{
		``: {Attempts: 0, Backoff: 250 * time.Millisecond, MaxBackoff: time.Minute},
		`consul { retry { attempts = 3 backoff = "1s" max_backoff = "2s" } }`: {Attempts: 3, Backoff: time.Second, MaxBackoff: 2 * time.Second},
		`consul { retry { enabled = false } }`:                                {Attempts: 1, Backoff: 250 * time.Millisecond, MaxBackoff: time.Minute},
	} {
		if got := load(t, settings.Sources{Inline: text}).Consul.Retry.Watch(); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// Every key of consul-template's own documentation is known.
func TestAllKeys(t *testing.T) {
	_, warnings, err := Read(settings.Sources{Inline: `
consul { address = "a" token = "t" token_file = "" namespace = "n" auth { enabled = true username = "u" password = "p" }
  ssl { enabled = true verify = true cert = "" key = "" ca_cert = "" ca_path = "" server_name = "" }
  retry { enabled = true attempts = 12 backoff = "250ms" max_backoff = "1m" }
  transport { dial_keep_alive = "10s" dial_timeout = "10s" disable_keep_alives = false max_idle_conns_per_host = 100 tls_handshake_timeout = "10s" } }
vault { address = "a" token = "t" renew_token = true ssl { enabled = true } retry { attempts = 1 } transport { dial_timeout = "1s" } }
nomad { address = "a" token = "t" }
template { source = "s" destination = "d" create_dest_dirs = true command = "c" command_timeout = "60s" error_on_missing_key = false
  error_fatal = true exec { command = "x" timeout = "1s" } perms = 0600 user = "u" group = "g" uid = 1 gid = 1 backup = true left_delimiter = "a" right_delimiter = "b"
  function_denylist = [] sandbox_path = "" wait { min = "2s" max = "10s" enabled = true } }
exec { command = "x" enabled = true splay = "5s" timeout = "0" kill_signal = "SIGTERM" kill_timeout = "2s" reload_signal = 1
  env { pristine = false custom = ["A=b"] allowlist = ["A*"] denylist = ["B*"] } }
wait { min = "5s" max = "10s" }
deduplicate { enabled = true prefix = "p" ttl = "15s" max_stale = "2s" block_query_wait = "60s" }
default_delimiters { left = "{{" right = "}}" }
max_stale = "10m" block_query_wait = "60s" once = true parse_only = true pid_file = "/p" reload_signal = "SIGHUP" kill_signal = "SIGINT"
template_error_fatal = true err_on_failed_lookup = true log_level = "warn"
log_file { path = "/l" log_rotate_bytes = 1 log_rotate_duration = "3h" log_rotate_max_files = 10 }
syslog { enabled = true facility = "LOCAL5" name = "n" }`})
	want := []string{"these settings are accepted but have no effect: consul.namespace, deduplicate, log_file, nomad, syslog, vault"}
	if err != nil || !reflect.DeepEqual(warnings, want) {
		t.Errorf("%v, %q", err, warnings)
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`wait = "9s:1s"`:                              "wait: the longest wait 1s is below the shortest 9s",
		`wait { mni = "1s" }`:                         "invalid config key wait.mni (did you mean wait.min?)",
		`reload_signal = "x"`:                         `reload_signal: no signal is called "x"`,
		`exec { command = { a = 1 } }`:                "exec.command: map[a:1] in it is not a string",
		`exec { env { custom = ["x"] } }`:             `exec.env: "x" in the custom environment is not NAME=value`,
		`exec { splay = "-1s" }`:                      "exec: a duration below zero",
		`template { contents = "x" source = "y" }`:    "template[0]: source and contents exclude each other",
		`template { contents = "x" perms = 0100000 }`: "is no file mode",
		`template { contents = "x" command = [1] }`:   "command: 1 in it is not a string",
		`consul { retry { attempt = 1 } }`:            "invalid config key consul.retry.attempt (did you mean consul.retry.attempts?)",
		`max_stale = 5`:                               "max_stale: 5 is not a duration",
	} {
		if _, _, err := Read(settings.Sources{Inline: text}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CT_LOCAL_CONFIG") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
