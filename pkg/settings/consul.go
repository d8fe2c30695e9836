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
	pick := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	if c.Token != "" && c.TokenFile == "" {
		base.TokenFile = "" // a token in the file beats one by environment
	}
	pick(&base.Address, c.Address)
	pick(&base.Token, c.Token)
	pick(&base.TokenFile, c.TokenFile)
	if c.Auth.Username != "" && (c.Auth.Enabled == nil || *c.Auth.Enabled) {
		base.HTTPAuth = c.Auth.Username + ":" + c.Auth.Password
	}
	s := c.SSL
	pick(&base.CertFile, s.Cert)
	pick(&base.KeyFile, s.Key)
	pick(&base.CAFile, s.CACert)
	pick(&base.CAPath, s.CAPath)
	pick(&base.TLSServerName, s.ServerName)
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
