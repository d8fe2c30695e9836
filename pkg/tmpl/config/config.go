// Package config reads consul-template's configuration files, unchanged, for
// tmpl: HCL, JSON, YAML and TOML, files and directories (recursively, in lexical
// order), laid over each other from left to right, with the command line on top.
//
// What it promises: a key that consul-template does not know is an error that
// names the file and the nearest key; so is a value that cannot be, such as a
// signal or a mode; settings that have no effect here (Vault, Nomad,
// deduplicate, log files) are accepted and named in one warning.
package config

import (
	"time"
)

// Config is what the files and the command line amount to. Fields are as they
// were written; the methods give what they mean.
type Config struct {
	Consul        Consul        `conf:"consul"`
	Templates     []Template    `conf:"template"`
	Exec          Exec          `conf:"exec"`
	Quiescence    any           `conf:"wait"` // "min:max" or a block
	Delims        Delims        `conf:"default_delimiters"`
	MaxStale      time.Duration `conf:"max_stale"`
	BlockWait     time.Duration `conf:"block_query_wait"`
	Once          bool          `conf:"once"`
	ParseOnly     bool          `conf:"parse_only"`
	PidFile       string        `conf:"pid_file"`
	ReloadSignal  *string       `conf:"reload_signal"`
	KillSignal    *string       `conf:"kill_signal"`
	ErrorFatal    *bool         `conf:"template_error_fatal"`
	FailOnMissing bool          `conf:"err_on_failed_lookup"`
	LogLevel      string        `conf:"log_level"`

	// Muster's own.
	MinInterval time.Duration `conf:"min_interval"`
	Jitter      time.Duration `conf:"jitter"`
	CacheFile   string        `conf:"cache_file"`

	_ any `conf:"vault|nomad|deduplicate|log_file|syslog,ignored"`
	_ any `conf:"nomad_services|once_timeout,silent"`
}

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

// Delims are the delimiters of templates that have none of their own.
type Delims struct {
	Left  string `conf:"left"`
	Right string `conf:"right"`
}

// Template is one file to keep.
type Template struct {
	Source            string        `conf:"source"`
	Contents          string        `conf:"contents"`
	Destination       string        `conf:"destination"`
	CreateDestDirs    *bool         `conf:"create_dest_dirs"`
	Command           any           `conf:"command"` // a string or a list
	CommandTimeout    time.Duration `conf:"command_timeout"`
	Exec              Exec          `conf:"exec"`
	ErrorOnMissingKey bool          `conf:"error_on_missing_key"`
	ErrorFatal        *bool         `conf:"error_fatal"`
	Perms             any           `conf:"perms"` // a number, or an octal string
	User              string        `conf:"user"`
	Group             string        `conf:"group"`
	UID               *int          `conf:"uid"`
	GID               *int          `conf:"gid"`
	Backup            bool          `conf:"backup"`
	LeftDelim         string        `conf:"left_delimiter"`
	RightDelim        string        `conf:"right_delimiter"`
	Denylist          []string      `conf:"function_denylist|function_blacklist"`
	SandboxPath       string        `conf:"sandbox_path"`
	Quiescence        any           `conf:"wait"`

	// Muster's own.
	Check       any           `conf:"check"` // must accept the new file
	Together    string        `conf:"together"`
	MinInterval time.Duration `conf:"min_interval"`
	MinItems    int           `conf:"min_items"`
	MaxShrink   int           `conf:"max_shrink"` // percent

	_ any `conf:"map_to_environment_variable,ignored"`
}

// Exec is a child to supervise, or, in a template, the command that runs after it.
type Exec struct {
	Command      any            `conf:"command"`
	Enabled      *bool          `conf:"enabled"`
	Env          Env            `conf:"env"`
	KillSignal   string         `conf:"kill_signal"`
	KillTimeout  *time.Duration `conf:"kill_timeout"`
	ReloadSignal string         `conf:"reload_signal"`
	Splay        time.Duration  `conf:"splay"`
	Timeout      time.Duration  `conf:"timeout"`
}

// Env is what a command's environment is made of.
type Env struct {
	Pristine bool     `conf:"pristine"`
	Custom   []string `conf:"custom"`
	Allow    []string `conf:"allowlist|whitelist"`
	Deny     []string `conf:"denylist|blacklist"`
}

// quiescence is the block form of wait.
type quiescence struct {
	Enabled *bool         `conf:"enabled"`
	Min     time.Duration `conf:"min"`
	Max     time.Duration `conf:"max"`
}
