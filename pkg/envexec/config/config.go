// Package config reads envconsul's configuration files, unchanged, for envexec: see
// package settings for how.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/watch"
)

// Config is what the files and the command line amount to. Fields are as they
// were written; the methods give what they mean.
type Config struct {
	Consul       settings.Consul `conf:"consul"`
	Exec         settings.Exec   `conf:"exec"`
	Prefixes     []Prefix        `conf:"prefix"`
	Services     []Service       `conf:"service"`
	Pristine     bool            `conf:"pristine"`
	Sanitize     *bool           `conf:"sanitize"`
	Upcase       bool            `conf:"upcase"`
	Quiescence   any             `conf:"wait"` // "min:max" or a block
	MaxStale     time.Duration   `conf:"max_stale"`
	BlockWait    time.Duration   `conf:"block_query_wait"`
	Once         bool            `conf:"once"`
	PidFile      string          `conf:"pid_file"`
	ReloadSignal *string         `conf:"reload_signal"`
	KillSignal   *string         `conf:"kill_signal"`
	LogLevel     string          `conf:"log_level"`

	// Muster's own.
	JSON        []string       `conf:"json"` // keys
	OnChange    string         `conf:"on_change"`
	EnvFile     EnvFile        `conf:"env_file"`
	Jitter      time.Duration  `conf:"jitter"`
	CacheFile   string         `conf:"cache_file"`
	CacheMaxAge *time.Duration `conf:"cache_max_age"` // nil: watch.DefaultMaxAge
	Apply       settings.Apply `conf:"apply"`

	// For those that do not say it themselves.
	All         Prefix  `conf:"all_prefixes"`
	AllServices Service `conf:"all_services"`

	_ any `conf:"vault|secret|syslog|log_file,ignored"`
}

// Prefix is a folder of the key/value store.
type Prefix struct {
	Path     string `conf:"path"`
	NoPrefix *bool  `conf:"no_prefix"`
	Format   string `conf:"format"`
	Expand   *bool  `conf:"json_values"` // muster's own
}

// Service is an entry of the catalog.
type Service struct {
	Query   string `conf:"query"`
	ID      string `conf:"format_id"`
	Name    string `conf:"format_name"`
	Address string `conf:"format_address"`
	Tag     string `conf:"format_tag"`
	Port    string `conf:"format_port"`
}

// EnvFile is a file that holds the variables too.
type EnvFile struct {
	Path   string `conf:"path"`
	Format string `conf:"format"`
}

// Read reads every source, for conf.Decode. The warnings are for the log.
func Read(src settings.Sources) (map[string]any, []string, error) {
	src.InlineName = "CT_LOCAL_CONFIG"
	return settings.Read[Config](src, migrateKeys)
}

// migrateKeys moves settings from where envconsul had them long ago, and names them.
func migrateKeys(m map[string]any) []string {
	moves := map[string][]string{
		"auth": {"consul", "auth"}, "ssl": {"consul", "ssl"}, "token": {"consul", "token"},
		"retry": {"consul", "retry", "backoff"}, "splay": {"exec", "splay"}, "timeout": {"exec", "kill_timeout"},
	}
	var remarks []string
	for _, old := range slices.Sorted(maps.Keys(moves)) {
		value, ok := m[old]
		if !ok || !move(m, moves[old], value) {
			continue
		}
		delete(m, old)
		remarks = append(remarks, fmt.Sprintf("%s is an old spelling: write %s", old, strings.Join(moves[old], ".")))
	}
	return remarks
}

// move puts a value where path says, unless something else stands in the way.
func move(m map[string]any, path []string, value any) bool {
	for ; len(path) > 1; path = path[1:] {
		inner, ok := m[path[0]].(map[string]any)
		if !ok {
			if m[path[0]] != nil {
				return false
			}
			inner = map[string]any{}
			m[path[0]] = inner
		}
		m = inner
	}
	if _, set := m[path[0]]; !set {
		m[path[0]] = value
	}
	return true
}

// Validate implements settings.File.
func (c *Config) Validate() error {
	errs := []error{c.Exec.Validate("exec")}
	if c.Jitter < 0 || c.MaxStale < 0 || c.BlockWait < 0 || c.CacheMaxAge != nil && *c.CacheMaxAge < 0 {
		errs = append(errs, errors.New("jitter, max_stale, block_query_wait or cache_max_age is below zero"))
	}
	if _, err := settings.ParseWait(c.Quiescence); err != nil {
		errs = append(errs, fmt.Errorf("wait: %w", err))
	}
	if c.ReloadSignal != nil {
		errs = append(errs, settings.ValidSignal("reload_signal", *c.ReloadSignal))
	}
	if c.KillSignal != nil {
		errs = append(errs, settings.ValidSignal("kill_signal", *c.KillSignal))
	}
	if _, err := c.onChange(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.File(); err != nil {
		errs = append(errs, err)
	}
	plan, err := c.Plan()
	if err == nil {
		err = plan.Check()
	}
	return errors.Join(append(errs, err)...)
}

// Wait is how long changes settle.
func (c *Config) Wait() watch.Wait {
	w, _ := settings.ParseWait(c.Quiescence) // validated
	if w == nil {
		return watch.Wait{}
	}
	return *w
}

func (c *Config) onChange() (envexec.OnChange, error) {
	if c.OnChange == "" {
		return envexec.Restart, nil
	}
	o, err := envexec.ParseOnChange(c.OnChange)
	if err != nil {
		return "", fmt.Errorf("on_change: %q: %w", c.OnChange, err)
	}
	return o, nil
}

// WhenChanged is what a change does to the child.
func (c *Config) WhenChanged() envexec.OnChange {
	o, _ := c.onChange() // validated
	return o
}

// File is the file that holds the variables too.
func (c *Config) File() (envexec.EnvFile, error) {
	out := envexec.EnvFile{Path: c.EnvFile.Path, Format: env.Dotenv}
	if c.EnvFile.Format != "" {
		var err error
		if out.Format, err = env.ParseOutput(c.EnvFile.Format); err != nil {
			return out, fmt.Errorf("env_file: format %q: %w", c.EnvFile.Format, err)
		}
	}
	return out, nil
}

// Plan is what the variables are made of, but for the environment below and above them.
func (c *Config) Plan() (envexec.Plan, error) {
	p := envexec.Plan{
		JSON:  c.JSON,
		Rules: env.Rules{Raw: c.Sanitize != nil && !*c.Sanitize, Upcase: c.Upcase, Deny: c.Exec.Env.Deny},
	}
	for _, prefix := range c.Prefixes {
		one, err := prefix.plan(c.All)
		if err != nil {
			return p, fmt.Errorf("prefix %q: %w", prefix.Path, err)
		}
		p.Prefixes = append(p.Prefixes, one)
	}
	for _, service := range c.Services {
		one, err := service.plan(c.AllServices)
		if err != nil {
			return p, fmt.Errorf("service %q: %w", service.Query, err)
		}
		p.Services = append(p.Services, one)
	}
	return p, nil
}

func (x Prefix) plan(all Prefix) (envexec.Prefix, error) {
	if x.Expand == nil {
		x.Expand = all.Expand
	}
	out := envexec.Prefix{Expand: x.Expand != nil && *x.Expand}
	if x.NoPrefix == nil {
		x.NoPrefix = all.NoPrefix
	}
	out.Named = x.NoPrefix != nil && !*x.NoPrefix
	if x.Format == "" {
		x.Format = all.Format
	}
	var err error
	if out.Format, err = format(x.Format); err != nil {
		return out, err
	}
	out.Path, err = expand(x.Path)
	return out, err
}

func (s Service) plan(all Service) (envexec.Service, error) {
	out := envexec.Service{}
	var err error
	if out.Query, err = expand(s.Query); err != nil {
		return out, err
	}
	for _, one := range []struct {
		to          **env.Format
		text, other string
	}{
		{&out.Formats.ID, s.ID, all.ID}, {&out.Formats.Name, s.Name, all.Name}, {&out.Formats.Address, s.Address, all.Address},
		{&out.Formats.Tag, s.Tag, all.Tag}, {&out.Formats.Port, s.Port, all.Port},
	} {
		if one.text == "" {
			one.text = one.other
		}
		if *one.to, err = format(one.text); err != nil {
			return out, err
		}
	}
	return out, nil
}

func format(text string) (*env.Format, error) {
	if text == "" {
		return nil, nil
	}
	return env.ParseFormat(text)
}

// expand executes a path that is a template: {{ env "X" }}.
func expand(path string) (string, error) {
	if !strings.Contains(path, "{{") {
		return path, nil
	}
	t, err := template.New("path").Funcs(template.FuncMap{"env": os.Getenv}).Parse(path)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return "", err
	}
	return b.String(), nil
}
