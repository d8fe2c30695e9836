// Package flagfile lets a configuration file give the flags of a tool that is run for
// one piece of work, such as lock: a key is the name of a flag, with _ for -. What
// the command line gives wins over a file, and a later file over an earlier one. For
// the connection there is a consul block, as in the files of the other tools;
// the environment wins over it.
package flagfile

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/settings"
)

// Common is what every such file may hold. The file of a tool squashes it, and has a
// pointer for each flag that it may give.
type Common struct {
	Consul   settings.Consul `conf:"consul"`
	LogLevel *string         `conf:"log_level"`
}

// Validate is for settings.Load: what a flag cannot take is found when it is set.
func (*Common) Validate() error { return nil }

func (c *Common) consul() *settings.Consul { return &c.Consul }

// Flags are -config, -log-level and those of the connection.
type Flags struct {
	tool     string
	set      *pflag.FlagSet
	conn     *connflags.Flags
	paths    []string
	logLevel string
}

// Add defines the flags of a tool.
func Add(fs *pflag.FlagSet, tool string) *Flags {
	f := &Flags{tool: tool, set: fs}
	fs.StringArrayVar(&f.paths, "config", nil, "configuration `file` or directory (HCL, JSON, YAML, TOML), repeatable; a later one wins, flags and the environment win over all")
	fs.StringVar(&f.logLevel, "log-level", "info", "`level`: trace, debug, info, warn or error")
	f.conn = connflags.Add(fs)
	f.conn.AddDatacenter()
	return f
}

// Settled is what flags, environment and files amount to, beside the flags themselves.
type Settled struct {
	Client *client.Client
	Conn   client.Config
	Level  slog.Level
}

// Load reads the files, as the struct T says, and gives their values to those flags of
// the command that its line does not give. Warnings are written to stderr.
func Load[T any, P interface {
	settings.File[T]
	consul() *settings.Consul
}](f *Flags, fs *pflag.FlagSet, stderr io.Writer) (Settled, error) {
	var out Settled
	file, warnings, err := settings.Load[T, P](settings.Sources{Paths: f.paths}, nil)
	if err != nil {
		return out, err
	}
	for _, setting := range conf.Walk(file) {
		name := strings.ReplaceAll(setting.Key, "_", "-")
		flag := fs.Lookup(name)
		if v := setting.Value; flag != nil && !flag.Changed && v.Kind() == reflect.Pointer && !v.IsNil() {
			if err := fs.Set(name, fmt.Sprint(v.Elem().Interface())); err != nil {
				return out, fmt.Errorf("read configuration: %s: %w", setting.Key, err)
			}
		}
	}
	if out.Level, err = logx.ParseLevel(f.logLevel); err != nil {
		return out, command.WrongValue("log-level", f.logLevel, err)
	}
	consul := P(file).consul()
	if consul.Retry != (settings.Retry{}) {
		warnings = append(warnings, "consul.retry has no effect on "+f.tool)
	}
	if out.Conn, err = f.conn.Over(consul.Under(connflags.FromEnv()), "muster-"+f.tool+"/"+cli.Version()); err != nil {
		return out, &command.UsageError{Err: err}
	}
	log := logx.New(stderr, out.Level, false)
	for _, text := range warnings {
		log.Warn(text)
	}
	out.Client, err = client.New(out.Conn)
	return out, err
}
