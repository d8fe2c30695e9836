package watchcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/daemon"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/handlers"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/watch"
)

// file is a configuration file.
type file struct {
	connect.Settings `conf:",squash"`

	Watches []map[string]any `conf:"watches|watch"` // each is checked when it is read
}

// config is what flags, files and environment give together.
type config struct {
	specs   []handlers.Spec
	conn    client.Config
	token   string // content of the token file: a reload reads it again
	retry   watch.Retry
	level   slog.Level
	env     []string
	dir     string
	handler handlers.Handler // of watches without one: a Printer
	prints  bool             // prints the first result and ends

	warnings []string
}

var (
	errTimeout  = errors.New("timed out")
	errRepeated = errors.New("an HTTP handler and a program are given: keep one")
)

func (o *options) start(ctx context.Context) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	return o.run(ctx, c)
}

// load reads everything.
func (o *options) load() (*config, error) {
	files, warnings, err := settings.Read[file](settings.Sources{Paths: o.configs}, nil)
	if err != nil {
		return nil, err
	}
	f, from, err := o.table.Resolve(files)
	if err != nil {
		return nil, err
	}
	c := &config{warnings: warnings}
	if len(o.configs) > 0 {
		if o.spec.Type != "" || len(o.args) > 0 {
			return nil, command.Usagef("-config and -type or a handler exclude each other: the files say what is watched")
		}
		if c.specs, err = handlers.Read("watches", f.Watches); err != nil {
			return nil, err
		}
	} else if err := o.single(c); err != nil {
		return nil, err
	}
	if o.timeout != 0 && !o.once && !c.prints {
		return nil, command.Usagef("-timeout goes with -once, or without a handler; -handler-timeout is for a handler that runs")
	}
	if c.level, err = logx.ParseLevel(f.LogLevel); err != nil {
		return nil, command.WrongValue("log-level", f.LogLevel, err)
	}
	return c, o.connect(c, f, from)
}

// single is the one watch of the command line.
func (o *options) single(c *config) error {
	s := o.spec
	var err error
	if s.PassingOnly, err = parseBool("passingonly", o.passing); err != nil {
		return err
	}
	if s.Shell, err = parseBool("shell", o.shell); err != nil {
		return err
	}
	s.Args = o.args
	if o.http.Path != "" {
		h := o.http
		if h.Header, err = headers(o.httpHeaders); err != nil {
			return err
		}
		s.HTTP = &h
	}
	if err := s.Check(); err != nil {
		return &command.UsageError{Err: err}
	}
	switch {
	case len(s.Args) > 0 && s.HTTP != nil:
		return &command.UsageError{Err: errRepeated}
	case len(s.Args) > 0 || s.HTTP != nil:
		if o.output != "json" {
			return command.Usagef("-o and a handler exclude each other")
		}
		if err := s.CheckHandler(); err != nil {
			return &command.UsageError{Err: err}
		}
	case o.output == "jsonl":
		c.handler = handlers.Printer{Out: o.stdout}
		if s.Initial == "" {
			s.Initial = handlers.InitialAlways
		}
	case s.Changes:
		return command.Usagef("-changes needs a handler, or -o jsonl")
	default:
		c.handler, c.prints = handlers.Printer{Out: o.stdout, Indent: true}, true
		s.Initial = handlers.InitialAlways
	}
	c.specs = []handlers.Spec{s}
	return nil
}

// parseBool parses a flag that is true, false, or unset.
func parseBool(flag, value string) (*bool, error) {
	if value == "" {
		return nil, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return nil, command.Usagef("Failed to parse %s flag: %w", flag, err)
	}
	return &b, nil
}

func headers(given []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, h := range given {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return nil, command.WrongValue("http-header", h, errors.New("want Name: value"))
		}
		out[name] = append(out[name], strings.TrimSpace(value))
	}
	return out, nil
}

// connect sets the connection to the agent, and the environment of handlers.
func (o *options) connect(c *config, f *file, from option.Origins) error {
	var err error
	if c.conn, err = connect.Config(&f.Consul, from, "watch"); err != nil {
		return err
	}
	if path := c.conn.TokenFile; path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read token file: %w", err)
		}
		c.token = string(data)
	}
	if _, err := client.New(c.conn); err != nil {
		return err
	}
	c.retry = f.Consul.Retry.Watch()
	switch {
	case o.retries < 0:
		return command.Usagef("-retry-attempts is below zero")
	case o.retries > 0:
		c.retry.Attempts = o.retries
	case c.prints && o.timeout == 0:
		c.retry.Attempts = 1 // a person waits for the answer
	}
	if c.env, err = (cli.Env{}).Build(os.Environ(), connect.Environ(c.conn)); err != nil {
		return err
	}
	if c.dir = o.stateDir; c.dir == "" {
		if c.dir, err = handlers.StateDir(); err != nil {
			c.warnings = append(c.warnings, err.Error())
		}
	}
	return nil
}

// app is one configuration of watch for the daemon.
type app struct {
	*handlers.Set
	o      *options
	config *config
	log    *slog.Logger
	once   bool
}

func (a *app) Open(log *slog.Logger, signals <-chan os.Signal) {
	a.log, a.once = log, a.o.once || a.config.prints
	a.Set = handlers.New(a.o.setConfig(a.config, log, signals), a.config.specs)
}

func (a *app) Common() daemon.Common {
	s := daemon.Signals{Kill: syscall.SIGINT, Others: []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}}
	if len(a.o.configs) > 0 {
		s.Reload = syscall.SIGHUP
	}
	return daemon.Common{Level: a.config.level, PidFile: a.o.pidFile, Warnings: a.config.warnings, Signals: s}
}

func (a *app) Prepare() error { return a.Check() }

func (a *app) LoadFailed() {}

func (a *app) Status() daemon.Status { return a.Set.Status() }

func (a *app) Reconfigure(other daemon.App) bool {
	now, next := a.config, other.(*app).config
	if next.token != now.token || !reflect.DeepEqual(next.conn, now.conn) || next.retry != now.retry {
		return false
	}
	a.config = next
	if err := a.Replace(next.specs); err != nil {
		a.log.Error("cannot use the new watches, keeping those before", "error", err)
	}
	return true
}

// Run runs the Set. With once a signal that ends it early is the exit code.
func (a *app) Run(ctx context.Context) error {
	err := a.Set.Run(ctx)
	var by *cli.Interrupt
	if a.once && ctx.Err() != nil && errors.As(context.Cause(ctx), &by) {
		if number, ok := by.Signal.(syscall.Signal); ok {
			return cli.Exit(128+int(number), nil)
		}
	}
	return err
}

// run delivers until a signal ends it, or everything is done.
func (o *options) run(ctx context.Context, c *config) error {
	if o.timeout > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
		ctx = limited
	}
	d := daemon.Daemon{Stderr: o.stderr, LogJSON: o.logJSON, StatusAddr: o.statusAddr, Load: func() (daemon.App, error) {
		c, err := o.load()
		return &app{o: o, config: c}, err
	}}
	return o.exitError(ctx, c, d.Run(ctx, &app{o: o, config: c}))
}

func (o *options) setConfig(c *config, log *slog.Logger, others <-chan os.Signal) handlers.Config {
	return handlers.Config{
		Client: func(token string) (handlers.Client, error) {
			conn := c.conn
			if token != "" {
				conn.Token, conn.TokenFile = token, ""
			}
			return client.New(conn)
		},
		Retry: c.retry, Address: address(c.conn), Dir: c.dir, DirOptional: o.stateDir == "", Logger: log,
		Handler: c.handler, DisplayOnly: true, Env: c.env, Signals: others, Once: o.once || c.prints,
		OnReady: func() { daemon.Notify("READY=1") },
	}
}

// address names the agent.
func address(conn client.Config) string {
	c, err := client.New(conn)
	if err != nil {
		return conn.Address // impossible: load has tried it
	}
	return c.Address()
}

// exitError maps an error to an exit code.
func (o *options) exitError(ctx context.Context, c *config, err error) error {
	var exited *handlers.ExitError
	var coded *cli.Error
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		return cli.Exit(cli.ExitRun, fmt.Errorf("no delivery within %s", o.timeout))
	case errors.As(err, &coded) && coded.Code == cli.ExitInterrupted && coded.Err == nil:
		return nil // as in the reference: SIGINT is how one ends it
	case errors.As(err, &exited):
		return cli.Exit(exited.Code, fmt.Errorf("handler: %w", err))
	case errors.Is(err, handlers.ErrNoAnswer) && !c.prints:
		return cli.Exit(cli.ExitRun, err)
	case errors.Is(err, handlers.ErrNoAnswer) && errors.Is(err, syscall.ECONNREFUSED):
		return cli.Hint(cli.ExitError, fmt.Errorf("Error querying Consul agent: %w", err),
			"no agent listens there: start one (agent -dev), or name another by -http-addr or MUSTER_HTTP_ADDR")
	case errors.Is(err, handlers.ErrInUse):
		return cli.Hint(cli.ExitError, err, "-initial=always or never remembers nothing, -state-dir remembers elsewhere")
	}
	return err
}
