package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/agent/config"
)

// setting is a flag that sets one configuration key.
type setting struct {
	flag, key string
	kind      kind
	help      string
}

type kind uint8

const (
	text kind = iota
	toggle
	number
	list  // may be given several times
	pairs // key:value, may be given several times
)

// settings are the agent's flags, by the reference's names. A word in `quotes`
// in the help is the name of the flag's value.
func settings() []setting {
	return []setting{
		{"server", "server", toggle, "be a server: hold the state and take part in raft"},
		{"bootstrap", "bootstrap", toggle, "be the one server that begins a cluster; -bootstrap-expect is safer"},
		{"bootstrap-expect", "bootstrap_expect", number, "begin a cluster once this `number` of servers is there"},
		{"retry-join", "retry_join", list, "`address` of a member to join; tried until one answers"},
		{"retry-interval", "retry_interval", text, "longest `time` between attempts to join (30s)"},
		{"retry-max", "retry_max", number, "`attempts` to join before giving up (0: never)"},
		{"join", "start_join", list, "deprecated: the same as -retry-join"},
		{"rejoin", "rejoin_after_leave", toggle, "join the members of the last run even after a graceful leave"},
		{"encrypt", "encrypt", text, "gossip encryption `key`: 16, 24 or 32 bytes in base64"},

		{"data-dir", "data_dir", text, "`directory` for everything that must survive"},
		{"node", "node_name", text, "`name` of this node (the host's name)"},
		{"node-id", "node_id", text, "`uuid` of this node (made on the first start)"},
		{"node-meta", "node_meta", pairs, "`key:value` to attach to this node; repeatable"},
		{"datacenter", "datacenter", text, "`name` of the datacenter (dc1)"},
		{"domain", "domain", text, "DNS `domain` (consul.)"},
		{"alt-domain", "alt_domain", text, "a second DNS `domain`"},
		{"recursor", "recursors", list, "`address` of a DNS server for other names; repeatable"},

		{"bind", "bind_addr", text, "`address` for raft and gossip"},
		{"advertise", "advertise_addr", text, "`address` that others are told to use"},
		{"client", "client_addr", text, "`address` for HTTP and DNS (127.0.0.1)"},
		{"serf-lan-bind", "serf_lan", text, "`address` for gossip, if not that of -bind"},
		{"http-port", "ports.http", number, "HTTP `port` (8500; -1: off)"},
		{"https-port", "ports.https", number, ""},
		{"dns-port", "ports.dns", number, "DNS `port` (8600; -1: off)"},
		{"server-port", "ports.server", number, "`port` for servers' traffic (8300)"},
		{"serf-lan-port", "ports.serf_lan", number, "gossip `port` (8301)"},
		{"allow-write-http-from", "http_config.allow_write_http_from", list, "`network` (CIDR) that may write over HTTP; repeatable"},

		{"enable-script-checks", "enable_script_checks", toggle, "run script checks, also those registered over HTTP"},
		{"enable-local-script-checks", "enable_local_script_checks", toggle, "run script checks that configuration files define"},
		{"check_output_max_size", "check_output_max_size", number, "`bytes` of a check's output that are kept (4096)"},
		{"default-query-time", "default_query_time", text, "`time` a blocking query waits unless told (300s)"},
		{"max-query-time", "max_query_time", text, "longest `time` a blocking query may wait (600s)"},

		{"log-level", "log_level", text, "`level`: trace, debug, info, warn or error"},
		{"log-json", "log_json", toggle, "log as JSON lines"},
		{"pid-file", "pid_file", text, "`file` to write the process id to"},
		{"auto-reload-config", "auto_reload_config", toggle, "read the configuration files again when they change"},

		{"advertise-wan", "advertise_addr_wan", text, ""},
		{"serf-wan-bind", "serf_wan", text, ""},
		{"serf-wan-port", "ports.serf_wan", number, ""},
		{"serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", list, ""},
		{"serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", list, ""},
		{"join-wan", "start_join_wan", list, ""},
		{"retry-join-wan", "retry_join_wan", list, ""},
		{"retry-interval-wan", "retry_interval_wan", text, ""},
		{"retry-max-wan", "retry_max_wan", number, ""},
		{"grpc-port", "ports.grpc", number, ""},
		{"grpc-tls-port", "ports.grpc_tls", number, ""},
		{"disable-keyring-file", "disable_keyring_file", toggle, ""},
		{"protocol", "protocol", number, ""},
		{"raft-protocol", "raft_protocol", number, ""},
		{"log-file", "log_file", text, ""},
		{"log-rotate-bytes", "log_rotate_bytes", number, ""},
		{"log-rotate-duration", "log_rotate_duration", text, ""},
		{"log-rotate-max-files", "log_rotate_max_files", number, ""},
		{"syslog", "enable_syslog", toggle, ""},
		{"ui", "ui_config.enabled", toggle, ""},
		{"ui-dir", "ui_config.dir", text, ""},
		{"ui-content-path", "ui_config.content_path", text, ""},
		{"disable-host-node-id", "disable_host_node_id", toggle, ""},
		{"read-replica", "read_replica", toggle, ""},
		{"non-voting-server", "non_voting_server", toggle, ""},
		{"segment", "segment", text, ""},
		{"primary-gateway", "primary_gateway", list, ""},
	}
}

// sources are the flags that say where configuration is read from.
type sources struct {
	dev       bool
	repair    bool
	format    string
	paths     paths
	fragments []string
}

func addSources(fs *pflag.FlagSet, s *sources) {
	fs.BoolVar(&s.dev, "dev", false, "development: one server, in memory, on 127.0.0.1")
	fs.BoolVar(&s.repair, "repair", false, "a server with damaged raft data: move it aside and rejoin the others as a new server")
	fs.Var(&s.paths, "config-file", "configuration `file`: JSON, HCL, YAML or TOML; repeatable")
	fs.Var(&s.paths, "config-dir", "`directory` of configuration files; repeatable, read in the order given")
	fs.StringVar(&s.format, "config-format", "", "`format` of all files, whatever they are called: json, hcl, yaml or toml")
	fs.StringArrayVar(&s.fragments, "hcl", nil, "configuration as HCL `text`; repeatable, beats files")
}

// paths keeps the order in which two flags were given.
type paths []string

func (p *paths) String() string     { return strings.Join(*p, ",") }
func (p *paths) Set(v string) error { *p = append(*p, v); return nil }
func (p *paths) Type() string       { return "path" }

func addSettings(fs *pflag.FlagSet, all []setting) {
	for _, s := range all {
		switch s.kind {
		case toggle:
			fs.Bool(s.flag, false, s.help)
		case number:
			fs.Int(s.flag, 0, s.help)
		case list, pairs:
			fs.StringArray(s.flag, nil, s.help)
		default:
			fs.String(s.flag, "", s.help)
		}
		if s.help == "" {
			_ = fs.MarkHidden(s.flag) // taken, but nothing to recommend
		}
	}
}

// read turns the flags that were given into configuration sources.
func (s *sources) read(fs *pflag.FlagSet, all []setting) (config.Sources, error) {
	out := config.Sources{Dev: s.dev, Paths: s.paths, Format: s.format, Fragments: s.fragments, Flags: map[string]any{}}
	for _, set := range all {
		if !fs.Changed(set.flag) {
			continue
		}
		value, err := valueOf(fs, set)
		if err != nil {
			return out, err
		}
		out.Flags[set.key] = value
	}
	return out, nil
}

func valueOf(fs *pflag.FlagSet, s setting) (any, error) {
	switch s.kind {
	case toggle:
		return fs.GetBool(s.flag)
	case number:
		return fs.GetInt(s.flag)
	case text:
		return fs.GetString(s.flag)
	}
	values, err := fs.GetStringArray(s.flag)
	if err != nil {
		return nil, err
	}
	if s.kind == pairs {
		m := map[string]any{}
		for _, v := range values {
			key, value, ok := strings.Cut(v, ":")
			if !ok {
				return nil, fmt.Errorf("invalid value %q for flag -%s: it is not key:value", v, s.flag)
			}
			m[key] = value
		}
		return m, nil
	}
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out, nil
}
