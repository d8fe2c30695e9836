package settings

import (
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/watch"
)

// Consul says which agent is asked, and how.
type Consul struct {
	Address   string `conf:"address"`
	Token     string `conf:"token"`
	TokenFile string `conf:"token_file"`
	Auth      Auth   `conf:"auth"`
	SSL       SSL    `conf:"ssl"`
	Retry     Retry  `conf:"retry"`

	_ any `conf:"enabled|transport,silent"` // how connections are kept is our own business
	_ any `conf:"namespace,ignored"`
}

// Auth is HTTP basic authentication.
type Auth struct {
	Enabled  *bool  `conf:"enabled"`
	Username string `conf:"username"`
	Password string `conf:"password"`
}

// SSL is how the agent is reached by HTTPS.
type SSL struct {
	Enabled    *bool  `conf:"enabled"`
	Verify     *bool  `conf:"verify"`
	Cert       string `conf:"cert"`
	Key        string `conf:"key"`
	CACert     string `conf:"ca_cert"`
	CAPath     string `conf:"ca_path"`
	ServerName string `conf:"server_name"`
	_          any    `conf:"ca_cert_bytes,ignored"`
}

// Retry says how often and when a failed request is sent again.
type Retry struct {
	Enabled    *bool          `conf:"enabled"`
	Attempts   int            `conf:"attempts"`
	Backoff    *time.Duration `conf:"backoff"`
	MaxBackoff *time.Duration `conf:"max_backoff"`
}

// Client lays what the files say over base, which is what the environment says.
func (c *Consul) Client(base client.Config) client.Config {
	s := c.SSL
	own := client.Config{
		Address: c.Address, Token: c.Token, TokenFile: c.TokenFile,
		CertFile: s.Cert, KeyFile: s.Key, CAFile: s.CACert, CAPath: s.CAPath, TLSServerName: s.ServerName,
	}
	if c.Auth.Username != "" && (c.Auth.Enabled == nil || *c.Auth.Enabled) {
		own.HTTPAuth = c.Auth.Username + ":" + c.Auth.Password
	}
	base = own.Over(base)
	if s.Verify != nil {
		base.InsecureSkipVerify = !*s.Verify
	}
	switch {
	case s.Enabled != nil:
		base.SSL = *s.Enabled
	case s != (SSL{}): // any setting of the block switches it on
		base.SSL = true
	}
	return base
}

// Under is what the files say where env, which is what the environment says, is silent.
func (c *Consul) Under(env client.Config) client.Config {
	return env.Over(c.Client(client.Config{}))
}

// Spec is the retry block; without one a tool tries for ever.
func (r *Retry) Spec() watch.Retry {
	out := watch.Retry{Attempts: r.Attempts, Backoff: 250 * time.Millisecond, MaxBackoff: time.Minute}
	if r.Backoff != nil {
		out.Backoff = *r.Backoff
	}
	if r.MaxBackoff != nil {
		out.MaxBackoff = *r.MaxBackoff
	}
	if r.Enabled != nil && !*r.Enabled {
		out.Attempts = 1
	}
	return out
}
