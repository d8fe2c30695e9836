// Package connect is how a command reaches its agent: the options for that, and the
// client that is made from them.
package connect

import (
	"time"

	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/settings"
)

// Group is the heading of these options in the help.
const Group = "Connection"

// Settings are the settings of every command that asks an agent. A command's struct of
// options embeds them.
type Settings struct {
	Consul   settings.Consul `conf:"consul"`
	LogLevel string          `conf:"log_level"`
}

// Validate is for settings.Read: values are checked when they are used.
func (*Settings) Validate() error { return nil }

func (s *Settings) settings() *Settings { return s }

// Options are the options of every command that asks an agent.
func Options() []option.Option {
	out := []option.Option{
		{Flag: "http-addr", Key: "consul.address", Env: "_HTTP_ADDR", Help: "`address` of the agent: host:port, http://, https:// or unix:///path (else " + client.DefaultAddress + ")"},
		{Flag: "token", Key: "consul.token", Env: "_HTTP_TOKEN CONSUL_TOKEN", Help: "ACL `token`"},
		{Flag: "token-file", Key: "consul.token_file", Env: "_HTTP_TOKEN_FILE", Help: "`file` that holds the ACL token; beats -token"},
		{Flag: "ca-file", Key: "consul.ssl.ca_cert", Env: "_CACERT", Help: "`file` with the CA certificate; this, and the flags below, mean https where the address names no scheme"},
		{Rare: true, Flag: "ca-path", Key: "consul.ssl.ca_path", Env: "_CAPATH", Help: "`directory` of CA certificates"},
		{Flag: "client-cert", Key: "consul.ssl.cert", Env: "_CLIENT_CERT", Help: "`file` with the client certificate"},
		{Rare: true, Flag: "client-key", Key: "consul.ssl.key", Env: "_CLIENT_KEY", Help: "`file` with the client key"},
		{Rare: true, Flag: "tls-server-name", Key: "consul.ssl.server_name", Env: "_TLS_SERVER_NAME", Help: "`name` that the server's certificate must have"},
		{Key: "consul.ssl.enabled", Env: "_HTTP_SSL", Default: false},
		{Key: "consul.ssl.verify", Env: "_HTTP_SSL_VERIFY", Default: true},
		{Key: "consul.http_auth", Env: "_HTTP_AUTH"},
		{Key: "consul.auth.username"},
		option.NoEffect("namespace", ""), option.NoEffect("partition", ""),
	}
	for i := range out {
		if out[i].Group = Group; out[i].Default == nil {
			out[i].Default = ""
		}
	}
	return out
}

// Datacenter is -datacenter.
func Datacenter() option.Option {
	return option.Option{Flag: "datacenter", Group: Group, Key: "consul.datacenter", Help: "`datacenter` to ask instead of the agent's own"}
}

// ConsulOptions are Options with the -consul-* flags that consul-template and envconsul have.
func ConsulOptions() []option.Option {
	also := map[string]string{
		"consul.address": "consul-addr", "consul.token": "consul-token", "consul.token_file": "consul-token-file",
		"consul.ssl.ca_cert": "consul-ssl-ca-cert", "consul.ssl.ca_path": "consul-ssl-ca-path", "consul.ssl.cert": "consul-ssl-cert",
		"consul.ssl.key": "consul-ssl-key", "consul.ssl.server_name": "consul-ssl-server-name",
	}
	own := map[string]option.Option{
		"consul.ssl.enabled": {Flag: "consul-ssl", Help: "use https"},
		"consul.ssl.verify":  {Flag: "consul-ssl-verify", Help: "verify the server's certificate"},
		"consul.http_auth":   {Flag: "consul-auth", Help: "`user:password` for basic authentication"},
	}
	out := Options()
	for i, o := range out {
		out[i].Also = also[o.Key]
		if own := own[o.Key]; own.Flag != "" {
			out[i].Flag, out[i].Help, out[i].Rare = own.Flag, own.Help, true
		}
	}
	out = append(out, Datacenter(),
		option.Option{Rare: true, Flag: "consul-retry", Key: "consul.retry.enabled", Default: true, Help: "try again when the agent cannot answer"},
		option.Option{Rare: true, Flag: "consul-retry-attempts", Key: "consul.retry.attempts", Help: "`failures` in a row that end the tool; 0: never"},
		option.Option{Rare: true, Flag: "consul-retry-backoff", Key: "consul.retry.backoff", Default: 250 * time.Millisecond, Help: "first `delay` before a retry; it doubles"},
		option.Option{Rare: true, Flag: "consul-retry-max-backoff", Key: "consul.retry.max_backoff", Default: time.Minute, Help: "longest `delay` before a retry"})
	for _, name := range []string{"dial-keep-alive", "dial-timeout", "tls-handshake-timeout"} {
		out = append(out, option.NoEffect("consul-transport-"+name, time.Duration(0)))
	}
	out = append(out, option.NoEffect("consul-transport-disable-keep-alives", false), option.NoEffect("consul-transport-max-idle-conns-per-host", 0))
	return option.In(Group, out...)
}

// LogLevel is -log-level.
func LogLevel() option.Option {
	return option.Option{Flag: "log-level", Default: "info", Help: "`level`: trace, debug, info, warn or error", Check: func(s string) error {
		_, err := logx.ParseLevel(s)
		return err
	}}
}

// AddCommon adds the options of a command that runs once; paths gets the configuration
// files that -config names.
func AddCommon(add func(...option.Option), paths *[]string) {
	add(option.In("General",
		option.Option{Flag: "config", To: paths, Help: "configuration `file` or directory (HCL, JSON, YAML, TOML), repeatable; a later one wins, flags and the environment win over all"},
		LogLevel())...)
	add(Options()...)
	add(Datacenter())
}

// userAgent is how a tool names itself to agents.
func userAgent(tool string) string { return "muster-" + tool + "/" + cli.Version() }
