// Package connflags holds the flags that say which agent to talk to. Every tool
// and every subcommand that asks an agent has them; flags beat the environment.
package connflags

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/client"
)

// Flags are the values; read them through Config once the flags are parsed.
type Flags struct {
	set    *pflag.FlagSet
	config client.Config
	verify bool

	retry    bool
	attempts int
	backoff  time.Duration
	most     time.Duration
}

// Add defines the connection flags of all commands.
func Add(fs *pflag.FlagSet) *Flags {
	f := &Flags{set: fs, verify: true, retry: true}
	c := &f.config
	fs.StringVar(&c.Address, "http-addr", "", "`address` of the agent: host:port, http://, https:// or unix:///path (env MUSTER_HTTP_ADDR, CONSUL_HTTP_ADDR; else "+client.DefaultAddress+")")
	fs.StringVar(&c.Token, "token", "", "ACL `token`")
	fs.StringVar(&c.TokenFile, "token-file", "", "`file` that holds the ACL token; beats -token")
	fs.StringVar(&c.CAFile, "ca-file", "", "`file` with the CA certificate; this, and the flags below, mean https where the address names no scheme")
	fs.StringVar(&c.CAPath, "ca-path", "", "`directory` of CA certificates")
	fs.StringVar(&c.CertFile, "client-cert", "", "`file` with the client certificate")
	fs.StringVar(&c.KeyFile, "client-key", "", "`file` with the client key")
	fs.StringVar(&c.TLSServerName, "tls-server-name", "", "`name` that the server's certificate must have")
	for _, name := range []string{"namespace", "partition"} {
		fs.String(name, "", "accepted, without effect")
		_ = fs.MarkHidden(name)
	}
	return f
}

// AddDatacenter defines -datacenter.
func (f *Flags) AddDatacenter() {
	f.set.StringVar(&f.config.Datacenter, "datacenter", "", "`datacenter` to ask instead of the agent's own")
}

// AddConsul defines the -consul-* spellings that consul-template and envconsul
// have.
func (f *Flags) AddConsul() {
	fs, c := f.set, &f.config
	fs.StringVar(&c.Address, "consul-addr", "", "same as -http-addr")
	fs.StringVar(&c.HTTPAuth, "consul-auth", "", "`user:password` for basic authentication")
	fs.StringVar(&c.Token, "consul-token", "", "same as -token")
	fs.StringVar(&c.TokenFile, "consul-token-file", "", "same as -token-file")
	fs.BoolVar(&c.SSL, "consul-ssl", false, "use https")
	fs.BoolVar(&f.verify, "consul-ssl-verify", true, "verify the server's certificate")
	fs.StringVar(&c.CAFile, "consul-ssl-ca-cert", "", "same as -ca-file")
	fs.StringVar(&c.CAPath, "consul-ssl-ca-path", "", "same as -ca-path")
	fs.StringVar(&c.CertFile, "consul-ssl-cert", "", "same as -client-cert")
	fs.StringVar(&c.KeyFile, "consul-ssl-key", "", "same as -client-key")
	fs.StringVar(&c.TLSServerName, "consul-ssl-server-name", "", "same as -tls-server-name")
	fs.BoolVar(&f.retry, "consul-retry", true, "try again when the agent cannot answer")
	fs.IntVar(&f.attempts, "consul-retry-attempts", 0, "`failures` in a row that end the tool; 0: never")
	fs.DurationVar(&f.backoff, "consul-retry-backoff", 250*time.Millisecond, "first `delay` before a retry; it doubles")
	fs.DurationVar(&f.most, "consul-retry-max-backoff", time.Minute, "longest `delay` before a retry")
	for _, name := range []string{"dial-keep-alive", "dial-timeout", "tls-handshake-timeout"} {
		fs.Duration("consul-transport-"+name, 0, "accepted, without effect")
		_ = fs.MarkHidden("consul-transport-" + name)
	}
	fs.Bool("consul-transport-disable-keep-alives", false, "accepted, without effect")
	fs.Int("consul-transport-max-idle-conns-per-host", 0, "accepted, without effect")
	_ = fs.MarkHidden("consul-transport-disable-keep-alives")
	_ = fs.MarkHidden("consul-transport-max-idle-conns-per-host")
}

// Retry is what the -consul-retry flags say: how many failures in a row are the
// end (0: no number is), and the delays between attempts.
func (f *Flags) Retry() (attempts int, backoff, most time.Duration) {
	if !f.retry {
		return 1, f.backoff, f.most
	}
	return f.attempts, f.backoff, max(f.backoff, f.most)
}

// Config is what flags and environment amount to.
func (f *Flags) Config(userAgent string) (client.Config, error) {
	return f.Over(FromEnv(), userAgent)
}

// FromEnv is what the environment says.
func FromEnv() client.Config {
	out := client.ConfigFromEnv()
	if out.Token == "" {
		out.Token = os.Getenv("CONSUL_TOKEN")
	}
	return out
}

// Over lays the flags over what environment and configuration files amount to.
func (f *Flags) Over(out client.Config, userAgent string) (client.Config, error) {
	if f.attempts < 0 || f.backoff < 0 || f.most < 0 {
		return client.Config{}, fmt.Errorf("a -consul-retry flag is below zero")
	}
	flags := f.config
	flags.SSL = false // said below
	flags.UserAgent = userAgent
	out = flags.Over(out)
	if f.changed("consul-ssl") {
		out.SSL = f.config.SSL
	}
	if f.changed("consul-ssl-verify") {
		out.InsecureSkipVerify = !f.verify
	}
	return f.encrypt(out)
}

// tlsFlags say how an agent is reached by HTTPS.
var tlsFlags = [...]string{
	"ca-file", "ca-path", "client-cert", "client-key", "tls-server-name",
	"consul-ssl-ca-cert", "consul-ssl-ca-path", "consul-ssl-cert", "consul-ssl-key", "consul-ssl-server-name",
}

// encrypt makes sure that a flag of TLS is not given for nothing: it means https where the
// address leaves that open, as any setting of an ssl block in a file does.
func (f *Flags) encrypt(out client.Config) (client.Config, error) {
	i := slices.IndexFunc(tlsFlags[:], f.changed)
	if i < 0 || strings.HasPrefix(out.Address, "https://") {
		return out, nil
	}
	if strings.Contains(out.Address, "://") || f.changed("consul-ssl") && !out.SSL {
		return client.Config{}, fmt.Errorf("-%s says how to reach the agent by HTTPS, but %q is to be asked without it: write https://HOST:PORT, or leave the flag out",
			tlsFlags[i], cmp.Or(out.Address, client.DefaultAddress))
	}
	out.SSL = true
	return out, nil
}

func (f *Flags) changed(name string) bool { return f.set.Lookup(name) != nil && f.set.Changed(name) }

// Environ is how a child command reaches the same agent, by the names of both
// muster and the reference.
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
