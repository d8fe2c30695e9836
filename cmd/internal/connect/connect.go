package connect

import (
	"cmp"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/settings"
)

// Session is a command's way to its agent.
type Session struct {
	Client *client.Client
	Config client.Config
	Level  slog.Level
}

// Open reads the configuration files of a command that runs once, resolves its options,
// and makes its client. Warnings go to stderr.
func Open[T any, P interface {
	settings.File[T]
	settings() *Settings
}](t *option.Table[T], tool string, paths []string, stderr io.Writer) (*T, Session, error) {
	var out Session
	files, warnings, err := settings.Read[T, P](settings.Sources{Paths: paths}, nil)
	if err != nil {
		return nil, out, err
	}
	values, from, err := t.Resolve(files)
	if err != nil {
		return nil, out, err
	}
	s := P(values).settings()
	if out.Level, err = logx.ParseLevel(s.LogLevel); err != nil {
		return nil, out, command.WrongValue("log-level", s.LogLevel, err)
	}
	if s.Consul.Retry != (settings.Retry{}) {
		warnings = append(warnings, "consul.retry has no effect on "+tool)
	}
	if out.Config, err = Config(&s.Consul, from, tool); err != nil {
		return nil, out, err
	}
	log := logx.New(stderr, out.Level, false)
	for _, text := range warnings {
		log.Warn(text)
	}
	out.Client, err = client.New(out.Config)
	return values, out, err
}

// Config makes the client's configuration from the settings of a connection.
func Config(c *settings.Consul, from option.Origins, tool string) (client.Config, error) {
	s, r := c.SSL, c.Retry
	if r.Attempts < 0 || r.Backoff != nil && *r.Backoff < 0 || r.MaxBackoff != nil && *r.MaxBackoff < 0 {
		return client.Config{}, command.Usagef("a setting of consul.retry, or a -consul-retry flag, is below zero")
	}
	out := client.Config{
		Address: c.Address, Token: c.Token, TokenFile: c.TokenFile, HTTPAuth: c.HTTPAuth, Datacenter: c.Datacenter, UserAgent: userAgent(tool),
		CertFile: s.Cert, KeyFile: s.Key, CAFile: s.CACert, CAPath: s.CAPath, TLSServerName: s.ServerName,
		SSL: s.Enabled != nil && *s.Enabled, InsecureSkipVerify: s.Verify != nil && !*s.Verify,
	}
	if from.Overrides("consul.token", "consul.token_file") { // the token wins over a token file of a lower source
		out.TokenFile = ""
	}
	if a := c.Auth; a.Username != "" && (a.Enabled == nil || *a.Enabled) && !from.Overrides("consul.http_auth", "consul.auth.username") {
		out.HTTPAuth = a.Username + ":" + a.Password
	}
	return requireTLS(out, s.Enabled != nil, from)
}

// sslKeys are the settings of HTTPS. One that is set implies HTTPS, see requireTLS.
var sslKeys = [...]string{"consul.ssl.ca_cert", "consul.ssl.ca_path", "consul.ssl.cert", "consul.ssl.key", "consul.ssl.server_name", "consul.ssl.verify"}

// requireTLS makes sure that a TLS setting has an effect: it implies https unless the
// address or another setting says otherwise. A flag that contradicts them is an error.
// explicit says that consul.ssl.enabled is set.
func requireTLS(out client.Config, explicit bool, from option.Origins) (client.Config, error) {
	for _, key := range sslKeys {
		flag := from.Flag(key)
		switch {
		case key == "consul.ssl.verify" && flag != "":
		case flag != "" && strings.HasPrefix(out.Address, "https://"):
		case flag != "" && (strings.Contains(out.Address, "://") || from.Flag("consul.ssl.enabled") != "" && !out.SSL):
			return client.Config{}, command.Usagef("-%s says how to reach the agent by HTTPS, but %q is to be asked without it: write https://HOST:PORT, or leave the flag out",
				flag, cmp.Or(out.Address, client.DefaultAddress))
		case flag != "", from.Has(key, option.File) && !explicit:
			out.SSL = true
		}
	}
	return out, nil
}

// Environ is the environment that lets a child command reach the same agent: the MUSTER_
// and the CONSUL_ variables.
func Environ(c client.Config) []string {
	var out []string
	set := func(name, value string) {
		if value != "" {
			out = append(out, "MUSTER_"+name+"="+value, "CONSUL_"+name+"="+value)
		}
	}
	set("HTTP_ADDR", c.Address)
	set("HTTP_TOKEN", c.Token)
	set("HTTP_TOKEN_FILE", c.TokenFile)
	set("HTTP_AUTH", c.HTTPAuth)
	if c.SSL {
		set("HTTP_SSL", "true")
	}
	if c.InsecureSkipVerify {
		set("HTTP_SSL_VERIFY", strconv.FormatBool(false))
	}
	set("CACERT", c.CAFile)
	set("CAPATH", c.CAPath)
	set("CLIENT_CERT", c.CertFile)
	set("CLIENT_KEY", c.KeyFile)
	set("TLS_SERVER_NAME", c.TLSServerName)
	return out
}
