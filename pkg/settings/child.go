package settings

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

// Exec is a child to supervise, or, in a template, the command that runs after it.
type Exec struct {
	Command      any            `conf:"command"`
	Enabled      *bool          `conf:"enabled"`
	Env          cli.Env        `conf:"env"`
	KillSignal   string         `conf:"kill_signal"`
	KillTimeout  *time.Duration `conf:"kill_timeout"`
	ReloadSignal string         `conf:"reload_signal"`
	Splay        time.Duration  `conf:"splay"`
	Timeout      time.Duration  `conf:"timeout"`
}

// Words reads a command: a string, or a list of strings.
func Words(v any) ([]string, error) {
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
	w, _ := Words(e.Command) // validated
	return w
}

// Validate checks the values whose meaning conf does not know; path is the key of the
// block.
func (e *Exec) Validate(path string) error {
	var errs []error
	if _, err := Words(e.Command); err != nil {
		errs = append(errs, fmt.Errorf("%s.%w", path, err))
	}
	if _, err := e.Env.Build(nil, nil); err != nil {
		errs = append(errs, fmt.Errorf("%s.env: %w", path, err))
	}
	if e.Splay < 0 || e.Timeout < 0 || e.KillTimeout != nil && *e.KillTimeout < 0 {
		errs = append(errs, fmt.Errorf("%s: a duration below zero", path))
	}
	errs = append(errs, ValidSignal(path+".kill_signal", e.KillSignal), ValidSignal(path+".reload_signal", e.ReloadSignal))
	return errors.Join(errs...)
}

// ValidSignal checks the name of a signal.
func ValidSignal(key, name string) error {
	if _, err := cli.ParseSignal(name); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
