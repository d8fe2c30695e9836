package toolopts

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/watch"
)

// Connection is a client with its configuration.
type Connection struct {
	Client *client.Client
	Config client.Config
	Retry  watch.Retry
	Token  string // content of the token file, which a reload reads again
}

// Connect makes the client; c and from are what Load has returned.
func (o *Options[T, P]) Connect(c *settings.Consul, from option.Origins) (Connection, error) {
	var out Connection
	var err error
	if out.Config, err = connect.Config(c, from, o.tool); err != nil {
		return out, err
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
	out.Retry = c.Retry.Watch()
	if o.retry > 0 {
		out.Retry.Backoff, out.Retry.MaxBackoff = o.retry, o.retry
	}
	return out, nil
}

// WithCode gives an error about the settings its exit code: that of wrong flags if there
// are no files, else that of a wrong configuration.
func (o *Options[T, P]) WithCode(err error, inline string) error {
	_, usage := errors.AsType[*command.UsageError](err)
	files := len(o.Configs) > 0 || strings.TrimSpace(inline) != ""
	switch {
	case err == nil:
		return nil
	case usage && files:
		return cli.Exit(cli.ExitConfig, errors.Unwrap(err))
	case usage || cli.Code(err) != cli.ExitError:
		return err
	}
	return cli.Exit(cli.ExitConfig, err)
}

// Cache is the configuration of the cache of this agent's data.
func (c Connection) Cache(path string, maxAge *time.Duration) watch.CacheConfig {
	k := watch.CacheConfig{Path: path, Address: c.Client.Address(), Datacenter: c.Config.Datacenter, MaxAge: watch.DefaultMaxAge}
	if strings.HasPrefix(c.Config.Address, "unix://") { // the client's own address is the same for all
		k.Address = c.Config.Address
	}
	if maxAge != nil {
		k.MaxAge = *maxAge
	}
	return k
}

// Signals are the signals that end the tool and that make it read its configuration again.
// The names are those of the configuration, which has checked them; nil if unset.
func (o *Options[T, P]) Signals(killName, reloadName *string) (kill, reload syscall.Signal, err error) {
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
		return 0, 0, command.Usagef("-reload-signal %s ends %s", name(reloadName, ""), o.tool)
	}
	return kill, reload, nil
}
