package settings

import (
	"time"

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

	// For flags and the environment only.
	Datacenter string `conf:"datacenter,flag"`
	HTTPAuth   string `conf:"http_auth,flag"` // user:password

	_ any `conf:"enabled|transport,silent"` // they tune connections, which needs no setting here
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

// Watch is the block as package watch has it; without one a tool retries for ever.
func (r *Retry) Watch() watch.Retry {
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
