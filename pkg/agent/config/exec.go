package config

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/muster-dev/muster/pkg/signed"
)

// ExecJob is a named job that remote execution may run on this node.
type ExecJob struct {
	Argv    []string      `conf:"argv"`
	User    string        `conf:"user"`
	Args    string        `conf:"args"` // regular expression that each whole argument must match
	Timeout time.Duration `conf:"timeout"`
}

// RemoteExec says whether remote execution is on. Either of its two keys switches it on.
func (c *Config) RemoteExec() bool { return c.EnableRemoteExec || !c.DisableRemoteExec }

// ArgsExpression compiles Args so that it matches whole arguments only. It is nil if the
// job takes no arguments.
func (j ExecJob) ArgsExpression() (*regexp.Regexp, error) {
	if j.Args == "" {
		return nil, nil
	}
	return regexp.Compile(`\A(?:` + j.Args + `)\z`)
}

// ExecKeys parses exec_authorized_keys.
func (c *Config) ExecKeys() ([]signed.Key, error) {
	var out []signed.Key
	for _, line := range c.ExecAuthorizedKeys {
		key, err := signed.ParseKey(line)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

func (c *Config) validateExec() error {
	if _, err := c.ExecKeys(); err != nil {
		return fmt.Errorf("exec_authorized_keys: %w", err)
	}
	for name, j := range c.ExecJobs {
		var err error
		switch {
		case name == "":
			err = errors.New("its name is empty")
		case len(j.Argv) == 0 || j.Argv[0] == "":
			err = errors.New("argv must name a program")
		case j.Timeout < 0:
			err = fmt.Errorf("timeout cannot be %s", j.Timeout)
		default:
			_, err = j.ArgsExpression()
		}
		if err != nil {
			return fmt.Errorf("job %q: %w", name, err)
		}
	}
	return nil
}
