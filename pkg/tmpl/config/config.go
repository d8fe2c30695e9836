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

	"github.com/muster-dev/muster/pkg/settings"
)

// Config is what the files and the command line amount to. Fields are as they
// were written; the methods give what they mean.
type Config struct {
	Consul        settings.Consul `conf:"consul"`
	Templates     []Template      `conf:"template"`
	Exec          settings.Exec   `conf:"exec"`
	Quiescence    any             `conf:"wait"` // "min:max" or a block
	Delims        Delims          `conf:"default_delimiters"`
	MaxStale      time.Duration   `conf:"max_stale"`
	BlockWait     time.Duration   `conf:"block_query_wait"`
	Once          bool            `conf:"once"`
	ParseOnly     bool            `conf:"parse_only"`
	PidFile       string          `conf:"pid_file"`
	ReloadSignal  *string         `conf:"reload_signal"`
	KillSignal    *string         `conf:"kill_signal"`
	ErrorFatal    *bool           `conf:"template_error_fatal"`
	FailOnMissing bool            `conf:"err_on_failed_lookup"`
	LogLevel      string          `conf:"log_level"`

	// Muster's own.
	MinInterval time.Duration  `conf:"min_interval"`
	Jitter      time.Duration  `conf:"jitter"`
	CacheFile   string         `conf:"cache_file"`
	CacheMaxAge *time.Duration `conf:"cache_max_age"` // nil: watch.DefaultMaxAge

	Apply settings.Apply `conf:"apply"`

	_ any `conf:"vault|nomad|deduplicate|log_file|syslog,ignored"`
	_ any `conf:"nomad_services|once_timeout,silent"`
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
	Exec              settings.Exec `conf:"exec"`
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

// Read reads every source, for conf.Decode. The warnings are for the log.
func Read(src settings.Sources) (map[string]any, []string, error) {
	src.InlineName = "CT_LOCAL_CONFIG"
	return settings.Read[Config](src, nil)
}
