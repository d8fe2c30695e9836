package main

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/agent/config"
)

// settings are the agent's flags, by the reference's names. A word in `quotes`
// in the help is the name of the flag's value.
func settings() []option.Option {
	main := []option.Option{
		{Flag: "server", To: new(bool), Help: "be a server: hold the state and take part in raft"},
		{Flag: "bootstrap-expect", To: new(int), Help: "begin a cluster once this `number` of servers is there"},
		{Flag: "retry-join", To: new([]string), Help: "`address` of a member to join; tried until one answers"},
		{Flag: "data-dir", To: new(string), Help: "`directory` for everything that must survive"},
		{Flag: "node", Key: "node_name", To: new(string), Help: "`name` of this node (the host's name)"},
		{Flag: "bind", Key: "bind_addr", To: new(string), Help: "`address` for raft and gossip"},
	}
	return slices.Concat(main, option.In("Cluster", []option.Option{
		{Flag: "bootstrap", To: new(bool), Help: "be the one server that begins a cluster; -bootstrap-expect is safer"},
		{Flag: "retry-interval", To: new(string), Help: "longest `time` between attempts to join (30s)"},
		{Flag: "retry-max", To: new(int), Help: "`attempts` to join before giving up (0: never)"},
		{Flag: "join", Key: "start_join", To: new([]string), Help: "deprecated: the same as -retry-join"},
		{Flag: "rejoin", Key: "rejoin_after_leave", To: new(bool), Help: "join the members of the last run even after a graceful leave"},
		{Flag: "encrypt", To: new(string), Help: "gossip encryption `key`: 16, 24 or 32 bytes in base64"},
	}...), option.In("Node", []option.Option{
		{Flag: "node-id", To: new(string), Help: "`uuid` of this node (made on the first start)"},
		{Flag: "node-meta", To: new(pairs), Help: "`key:value` to attach to this node; repeatable"},
		{Flag: "datacenter", To: new(string), Help: "`name` of the datacenter (dc1)"},
		{Flag: "domain", To: new(string), Help: "DNS `domain` (consul.)"},
		{Flag: "alt-domain", To: new(string), Help: "a second DNS `domain`"},
		{Flag: "recursor", Key: "recursors", To: new([]string), Help: "`address` of a DNS server for other names; repeatable"},
	}...), option.In("Network", []option.Option{
		{Flag: "client", Key: "client_addr", To: new(string), Help: "`address` for HTTP and DNS (127.0.0.1)"},
		{Flag: "advertise", Key: "advertise_addr", To: new(string), Help: "`address` that others are told to use"},
		{Flag: "serf-lan-bind", Key: "serf_lan", To: new(string), Help: "`address` for gossip, if not that of -bind"},
		{Flag: "http-port", Key: "ports.http", To: new(int), Help: "HTTP `port` (8500; -1: off)"},
		{Flag: "dns-port", Key: "ports.dns", To: new(int), Help: "DNS `port` (8600; -1: off)"},
		{Flag: "server-port", Key: "ports.server", To: new(int), Help: "`port` for servers' traffic (8300)"},
		{Flag: "serf-lan-port", Key: "ports.serf_lan", To: new(int), Help: "gossip `port` (8301)"},
		{Flag: "allow-write-http-from", Key: "http_config.allow_write_http_from", To: new([]string), Help: "`network` (CIDR) that may write over HTTP; repeatable"},
	}...), option.In("Checks and queries", []option.Option{
		{Flag: "enable-script-checks", To: new(bool), Help: "run script checks, also those registered over HTTP"},
		{Flag: "enable-local-script-checks", To: new(bool), Help: "run script checks that configuration files define"},
		{Flag: "check_output_max_size", To: new(int), Help: "`bytes` of a check's output that are kept (4096)"},
		{Flag: "default-query-time", To: new(string), Help: "`time` a blocking query waits unless told (300s)"},
		{Flag: "max-query-time", To: new(string), Help: "longest `time` a blocking query may wait (600s)"},
	}...), option.In("Process", []option.Option{
		{Flag: "log-level", To: new(string), Help: "`level`: trace, debug, info, warn or error"},
		{Flag: "log-json", To: new(bool), Help: "log as JSON lines"},
		{Flag: "pid-file", To: new(string), Help: "`file` to write the process id to"},
		{Flag: "auto-reload-config", To: new(bool), Help: "read the configuration files again when they change"},
	}...), []option.Option{ // taken, but nothing to recommend
		{Flag: "https-port", Key: "ports.https", To: new(int), Help: command.NoEffect},
		{Flag: "advertise-wan", Key: "advertise_addr_wan", To: new(string), Help: command.NoEffect},
		{Flag: "serf-wan-bind", Key: "serf_wan", To: new(string), Help: command.NoEffect},
		{Flag: "serf-wan-port", Key: "ports.serf_wan", To: new(int), Help: command.NoEffect},
		{Flag: "serf-lan-allowed-cidrs", To: new([]string), Help: command.NoEffect},
		{Flag: "serf-wan-allowed-cidrs", To: new([]string), Help: command.NoEffect},
		{Flag: "join-wan", Key: "start_join_wan", To: new([]string), Help: command.NoEffect},
		{Flag: "retry-join-wan", To: new([]string), Help: command.NoEffect},
		{Flag: "retry-interval-wan", To: new(string), Help: command.NoEffect},
		{Flag: "retry-max-wan", To: new(int), Help: command.NoEffect},
		{Flag: "grpc-port", Key: "ports.grpc", To: new(int), Help: command.NoEffect},
		{Flag: "grpc-tls-port", Key: "ports.grpc_tls", To: new(int), Help: command.NoEffect},
		{Flag: "disable-keyring-file", To: new(bool), Help: command.NoEffect},
		{Flag: "protocol", To: new(int), Help: command.NoEffect},
		{Flag: "raft-protocol", To: new(int), Help: command.NoEffect},
		{Flag: "log-file", To: new(string), Help: command.NoEffect},
		{Flag: "log-rotate-bytes", To: new(int), Help: command.NoEffect},
		{Flag: "log-rotate-duration", To: new(string), Help: command.NoEffect},
		{Flag: "log-rotate-max-files", To: new(int), Help: command.NoEffect},
		{Flag: "syslog", Key: "enable_syslog", To: new(bool), Help: command.NoEffect},
		{Flag: "ui", Key: "ui_config.enabled", To: new(bool), Help: command.NoEffect},
		{Flag: "ui-dir", Key: "ui_config.dir", To: new(string), Help: command.NoEffect},
		{Flag: "ui-content-path", Key: "ui_config.content_path", To: new(string), Help: command.NoEffect},
		{Flag: "disable-host-node-id", To: new(bool), Help: command.NoEffect},
		{Flag: "read-replica", To: new(bool), Help: command.NoEffect},
		{Flag: "non-voting-server", To: new(bool), Help: command.NoEffect},
		{Flag: "segment", To: new(string), Help: command.NoEffect},
		{Flag: "primary-gateway", To: new([]string), Help: command.NoEffect},
	})
}

// sources are the flags that say where configuration is read from.
type sources struct {
	dev       bool
	repair    bool
	format    string
	paths     paths
	fragments []string
}

func (s *sources) options() []option.Option {
	return append([]option.Option{
		{Flag: "dev", To: &s.dev, Help: "development: one server, in memory, on 127.0.0.1"},
		{Flag: "config-file", To: &s.paths, Help: "configuration `file`: JSON, HCL, YAML or TOML; repeatable"},
		{Flag: "config-dir", To: &s.paths, Help: "`directory` of configuration files; repeatable, read in the order given"},
	}, option.In("Configuration",
		option.Option{Flag: "config-format", To: &s.format, Help: "`format` of all files, whatever they are called: json, hcl, yaml or toml"},
		option.Option{Flag: "hcl", To: &s.fragments, Help: "configuration as HCL `text`; repeatable, beats files"},
		option.Option{Flag: "repair", To: &s.repair, Help: "a server with damaged raft data: move it aside and rejoin the others as a new server"})...)
}

// paths keeps the order in which two flags were given.
type paths []string

func (p *paths) String() string     { return strings.Join(*p, ",") }
func (p *paths) Set(v string) error { *p = append(*p, v); return nil }
func (p *paths) Type() string       { return "path" }

// pairs is the value of a flag that gives a key:value each time.
type pairs map[string]any

func (p *pairs) String() string { return "" }
func (p *pairs) Type() string   { return "key:value" }

func (p *pairs) Set(s string) error {
	key, value, ok := strings.Cut(s, ":")
	if !ok {
		return errors.New("it is not key:value")
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[key] = value
	return nil
}

// read turns the flags that were given into configuration sources.
func (s *sources) read(fs *pflag.FlagSet, all []option.Option) config.Sources {
	out := config.Sources{Dev: s.dev, Paths: s.paths, Format: s.format, Fragments: s.fragments, Flags: map[string]any{}}
	for _, o := range all {
		if fs.Changed(o.Flag) {
			out.Flags[o.Name()] = reflect.ValueOf(o.To).Elem().Interface()
		}
	}
	return out
}
