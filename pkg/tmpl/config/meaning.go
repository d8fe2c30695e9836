package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/watch"
)

// Wait is the quiescence of all templates that have none of their own.
func (c *Config) Wait() tmpl.Wait {
	w, _ := wait(c.Quiescence) // validated
	if w == nil {
		return tmpl.Wait{}
	}
	return *w
}

// wait reads "min:max", or a block; nil is nothing said.
func wait(v any) (*tmpl.Wait, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		w, err := tmpl.ParseWait(v)
		return &w, err
	}
	// Fit makes one object of the blocks of several files.
	var holder struct {
		Wait quiescence `conf:"wait"`
	}
	fitted, err := conf.Fit("wait", map[string]any{"wait": v}, holder)
	if err != nil {
		return nil, err
	}
	if err := conf.Decode(fitted.Map, &holder); err != nil {
		return nil, err
	}
	q := holder.Wait
	switch {
	case q.Enabled != nil && !*q.Enabled:
		return &tmpl.Wait{}, nil
	case q.Min < 0 || q.Max < 0:
		return nil, errors.New("a duration below zero")
	case q.Max != 0 && q.Max < q.Min:
		return nil, fmt.Errorf("the longest wait %s is below the shortest %s", q.Max, q.Min)
	}
	return &tmpl.Wait{Min: q.Min, Max: q.Max}, nil
}

// words reads a command: a string, or a list of strings.
func words(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		if strings.TrimSpace(v) == "" {
			return nil, nil
		}
		return []string{v}, nil
	case argv:
		return v, nil
	case []any:
		out := make([]string, 0, len(v))
		for _, element := range v {
			word, ok := element.(string)
			if !ok {
				return nil, fmt.Errorf("command: %v in it is not a string", element)
			}
			out = append(out, word)
		}
		return out, nil
	}
	return nil, fmt.Errorf("command: a string or a list of strings is needed here, not %v", v)
}

// Words is the command, nil where there is none: one string, or argv.
func (e *Exec) Words() []string {
	if e.Enabled != nil && !*e.Enabled {
		return nil
	}
	w, _ := words(e.Command) // validated
	return w
}

// Build makes the environment of a command, from our own and extra.
func (e Env) Build(own, extra []string) ([]string, error) {
	return cli.Env{Pristine: e.Pristine, Custom: e.Custom, Allow: e.Allow, Deny: e.Deny}.Build(own, extra)
}

// given says whether anything is said about the environment.
func (e Env) given() bool {
	return e.Pristine || len(e.Custom)+len(e.Allow)+len(e.Deny) > 0
}

func (e *Exec) validate(path string) error {
	var errs []error
	if _, err := words(e.Command); err != nil {
		errs = append(errs, fmt.Errorf("%s.%w", path, err))
	}
	if _, err := e.Env.Build(nil, nil); err != nil {
		errs = append(errs, fmt.Errorf("%s.env: %w", path, err))
	}
	if e.Splay < 0 || e.Timeout < 0 || e.KillTimeout != nil && *e.KillTimeout < 0 {
		errs = append(errs, fmt.Errorf("%s: a duration below zero", path))
	}
	errs = append(errs, validSignal(path+".kill_signal", e.KillSignal), validSignal(path+".reload_signal", e.ReloadSignal))
	return errors.Join(errs...)
}

func validSignal(key, name string) error {
	if _, err := cli.ParseSignal(name); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (t *Template) validate() error {
	errs := []error{t.Exec.validate("exec")}
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
	_, err := wait(t.Quiescence)
	add("wait: ", err)
	_, err = perms(t.Perms)
	add("perms: ", err)
	_, err = words(t.Command)
	add("", err)
	_, err = words(t.Check)
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
	out.Wait, _ = wait(t.Quiescence)
	check, _ := words(t.Check)
	out.Check = tmpl.CommandLine(check)
	command, _ := words(t.Command)
	if len(command) == 0 {
		command = t.Exec.Words()
	}
	out.Command = tmpl.CommandLine(command)
	if out.CommandTimeout == 0 {
		out.CommandTimeout = t.Exec.Timeout
	}
	if t.Exec.Env.given() {
		env, err := t.Exec.Env.Build(own, extra)
		if err != nil {
			return out, fmt.Errorf("template %s: exec.env: %w", out.Source, err)
		}
		out.Env = env
	}
	return out, nil
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

// Spec is the retry block; without one tmpl tries for ever.
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
