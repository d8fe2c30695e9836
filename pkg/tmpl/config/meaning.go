package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/watch"
)

// Wait is the quiescence of all templates that have none of their own.
func (c *Config) Wait() watch.Wait {
	w, _ := settings.ParseWait(c.Quiescence) // validated
	if w == nil {
		return watch.Wait{}
	}
	return *w
}

func (t *Template) validate() error {
	errs := []error{t.Exec.Validate("exec")}
	add := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s%w", key, err))
		}
	}
	if t.Source != "" && t.Contents != "" {
		add("", errors.New("source and contents exclude each other"))
	}
	if t.Source == "" && t.Contents == "" {
		add("", errors.New("source or contents is needed"))
	}
	if t.MinInterval < 0 || t.MinItems < 0 || t.MaxShrink < 0 || t.MaxShrink > 100 {
		add("", errors.New("min_interval, min_items or max_shrink (percent) is out of range"))
	}
	_, err := settings.ParseWait(t.Quiescence)
	add("wait: ", err)
	_, err = perms(t.Perms)
	add("perms: ", err)
	_, err = settings.Words(t.Command)
	add("", err)
	_, err = settings.Words(t.Check)
	add("check: ", err)
	return errors.Join(errs...)
}

// perms reads a mode: a string is octal, a number has been read by its format,
// where 0644 is octal too.
func perms(v any) (fs.FileMode, error) {
	var n int64
	switch v := v.(type) {
	case nil:
		return 0, nil
	case int64:
		n = v
	case string:
		var err error
		if n, err = strconv.ParseInt(v, 8, 32); err != nil {
			return 0, fmt.Errorf("%q is not an octal number such as 0644", v)
		}
	default:
		return 0, fmt.Errorf("%v is not an octal number such as 0644", v)
	}
	if n < 0 || n > 0o7777 {
		return 0, fmt.Errorf("%#o is no file mode", n)
	}
	mode := fs.FileMode(n & 0o777)
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

// Specs are the templates as package tmpl has them; own and extra make the
// environment of those whose exec block says something about it.
func (c *Config) Specs(own, extra []string) ([]tmpl.Template, error) {
	at := map[string]string{}
	var out []tmpl.Template
	for i := range c.Templates {
		t, err := c.Templates[i].spec(c, own, extra)
		if err != nil {
			return nil, err
		}
		if other, twice := at[t.Destination]; twice && t.Destination != "" {
			return nil, fmt.Errorf("template %s: template %s has the same destination %s", t.Source, other, t.Destination)
		}
		at[t.Destination] = t.Source
		out = append(out, t)
	}
	return out, nil
}

func (t *Template) spec(c *Config, own, extra []string) (tmpl.Template, error) {
	pick := func(first, second string) string {
		if first != "" {
			return first
		}
		return second
	}
	mode, _ := perms(t.Perms) // this and the like: validated
	out := tmpl.Template{
		Source: t.Source, Contents: t.Contents, Destination: t.Destination,
		CommandTimeout: t.CommandTimeout, Perms: mode, User: t.User, Group: t.Group, Backup: t.Backup,
		NoDirs:    t.CreateDestDirs != nil && !*t.CreateDestDirs,
		LeftDelim: pick(t.LeftDelim, c.Delims.Left), RightDelim: pick(t.RightDelim, c.Delims.Right),
		ErrorOnMissingKey: t.ErrorOnMissingKey, ErrorFatal: t.ErrorFatal,
		Denylist: t.Denylist, SandboxPath: t.SandboxPath,
		Together: t.Together, MinInterval: t.MinInterval, MinItems: t.MinItems, MaxShrink: t.MaxShrink,
	}
	if t.Contents != "" {
		out.Source = "contents of " + pick(t.Destination, "a template")
	}
	if out.ErrorFatal == nil {
		out.ErrorFatal = c.ErrorFatal
	}
	if t.UID != nil {
		out.User = strconv.Itoa(*t.UID)
	}
	if t.GID != nil {
		out.Group = strconv.Itoa(*t.GID)
	}
	out.Wait, _ = settings.ParseWait(t.Quiescence)
	check, _ := settings.Words(t.Check)
	out.Check = tmpl.CommandLine(check)
	command, _ := settings.Words(t.Command)
	if len(command) == 0 {
		command = t.Exec.Words()
	}
	out.Command = tmpl.CommandLine(command)
	if out.CommandTimeout == 0 {
		out.CommandTimeout = t.Exec.Timeout
	}
	if t.Exec.Env.Given() {
		env, err := t.Exec.Env.Build(own, extra)
		if err != nil {
			return out, fmt.Errorf("template %s: exec.env: %w", out.Source, err)
		}
		out.Env = env
	}
	return out, nil
}

// Validate checks the values that conf does not know the meaning of.
func (c *Config) Validate() error {
	errs := []error{c.Exec.Validate("exec")}
	if c.MinInterval < 0 || c.Jitter < 0 || c.MaxStale < 0 || c.BlockWait < 0 || c.CacheMaxAge != nil && *c.CacheMaxAge < 0 {
		errs = append(errs, errors.New("min_interval, jitter, max_stale, block_query_wait or cache_max_age is below zero"))
	}
	if _, err := settings.ParseWait(c.Quiescence); err != nil {
		errs = append(errs, fmt.Errorf("wait: %w", err))
	}
	for _, s := range []struct {
		key  string
		name *string
	}{{"reload_signal", c.ReloadSignal}, {"kill_signal", c.KillSignal}} {
		if s.name != nil {
			errs = append(errs, settings.ValidSignal(s.key, *s.name))
		}
	}
	for i := range c.Templates {
		if err := c.Templates[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("template[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
