package toolflags

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/watch"
)

// Connection is how the agent is reached.
type Connection struct {
	Client *client.Client
	Config client.Config
	Retry  watch.Retry
	Token  string // what the token file holds: a reload reads it again
}

// Connect lays the flags over a consul block and the environment.
func (f *Flags) Connect(c *settings.Consul) (Connection, error) {
	var out Connection
	var err error
	if out.Config, err = f.conn.Over(c.Client(connflags.FromEnv()), "muster-"+f.tool+"/"+cli.Version()); err != nil {
		return out, &command.UsageError{Err: err}
	}
	if out.Client, err = client.New(out.Config); err != nil {
		return out, cli.Exit(cli.ExitConfig, err)
	}
	if path := out.Config.TokenFile; path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return out, cli.Exit(cli.ExitConfig, fmt.Errorf("read token file: %w", err))
		}
		out.Token = string(data)
	}
	out.Retry = c.Retry.Spec()
	if f.retry > 0 {
		out.Retry.Backoff, out.Retry.MaxBackoff = f.retry, f.retry
	}
	return out, nil
}

// Blame gives an error of what flags, files and environment amount to its exit code: that
// of wrong flags where they alone can be the reason, else that of a wrong configuration.
func (f *Flags) Blame(err error, inline string) error {
	_, byFlag := errors.AsType[*settings.FlagError](err)
	_, usage := errors.AsType[*command.UsageError](err)
	files := len(f.Configs) > 0 || strings.TrimSpace(inline) != ""
	switch {
	case err == nil:
		return nil
	case byFlag:
		return &command.UsageError{Err: err}
	case usage && files:
		return cli.Exit(cli.ExitConfig, errors.Unwrap(err))
	case usage || cli.Code(err) != cli.ExitError:
		return err
	}
	return cli.Exit(cli.ExitConfig, err)
}

// Keeping is where the last good data are kept, and that they are of this agent.
func (c Connection) Keeping(path string, maxAge *time.Duration) watch.CacheConfig {
	k := watch.CacheConfig{Path: path, Address: c.Client.Address(), Datacenter: c.Config.Datacenter, MaxAge: watch.DefaultMaxAge}
	if strings.HasPrefix(c.Config.Address, "unix://") { // the client's own address is the same for all
		k.Address = c.Config.Address
	}
	if maxAge != nil {
		k.MaxAge = *maxAge
	}
	return k
}

// Signals are those that end the tool and make it read its configuration again. The
// names are the configuration's, nil where it says nothing, and have been checked.
func (f *Flags) Signals(killName, reloadName *string) (kill, reload syscall.Signal, err error) {
	name := func(given *string, otherwise string) string {
		if given != nil {
			return *given
		}
		return otherwise
	}
	kill, _ = cli.ParseSignal(name(killName, "SIGINT"))
	reload, _ = cli.ParseSignal(name(reloadName, "SIGHUP"))
	if kill == 0 {
		kill = syscall.SIGINT
	}
	if reload != 0 && (reload == kill || reload == syscall.SIGTERM || reload == syscall.SIGINT) {
		return 0, 0, command.Usagef("-reload-signal %s ends %s", name(reloadName, ""), f.tool)
	}
	return kill, reload, nil
}

// Level is the log level that was given, or the first that the environment names.
func Level(given string, names ...string) (slog.Level, error) {
	for _, name := range names {
		if given == "" {
			given = os.Getenv(name)
		}
	}
	level, err := logx.ParseLevel(given)
	if err != nil {
		return 0, cli.Exit(cli.ExitConfig, err)
	}
	return level, nil
}
