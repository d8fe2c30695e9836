// Package option is the one table of a command's settings: each row names a flag, its
// key in configuration files, its environment variables, its place in the help, and
// the flags that mean the same. The flags are made from the table, and viper decides
// which value counts: a flag wins over the environment, the environment over files, files
// over the default. There is one exception (Table.FilesFirst), and a list given by flags
// is appended to that of the files.
package option

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/conf"
)

// Option is one row.
type Option struct {
	Flag  string // without dashes; "": the command line cannot give it
	Also  string // flags that mean the same, separated by blanks: the reference's spellings
	Key   string // dotted key of the struct's field, and of files; "": Flag, with _ for -
	Env   string // variables, as command.Variables reads them; the first that is set counts
	Group string // heading in the help; "": a main flag, which -help explains
	Help  string // a word in `quotes` names the value
	Rare  bool   // -help-all alone lists it
	Bare  string // the value of a flag that is given without one
	// Default is the default that the help shows; it has the flag's type. nil: the
	// field's value, which must not be nil then.
	Default any
	// To is the variable that the flag sets, for an option that is not in files; it holds
	// the default. nil: the flag sets the field of Key.
	To any
	// Check checks a value of the command line.
	Check func(string) error
	// Warn makes Table.GivenWithoutEffect list the flag.
	Warn bool
}

// Name is the key of the option.
func (o *Option) Name() string {
	if o.Key != "" {
		return o.Key
	}
	return strings.ReplaceAll(o.Flag, "-", "_")
}

// NoEffect is a flag that is accepted without effect; kind is a value of its type.
func NoEffect(flag string, kind any) Option {
	return Option{Flag: flag, Help: command.NoEffect, To: reflect.New(reflect.TypeOf(kind)).Interface()}
}

// Unused are flags without effect with a warning if they are given; kind is a value of
// their type.
func Unused(kind any, flags ...string) (out []Option) {
	for _, flag := range flags {
		o := NoEffect(flag, kind)
		o.Warn = true
		out = append(out, o)
	}
	return out
}

// In sets the heading of the options that have none.
func In(group string, options ...Option) []Option {
	for i := range options {
		if options[i].Group == "" {
			options[i].Group = group
		}
	}
	return options
}

// CheckBool is the Check of an option that is true, false, or unset.
func CheckBool(s string) error {
	if s != "true" && s != "false" {
		return errors.New("want true or false")
	}
	return nil
}

// Table holds the options of one command, whose values fill a T: a struct with the
// tags of package conf.
type Table[T any] struct {
	// FilesFirst lets files win over the environment, as in consul-template and envconsul.
	FilesFirst bool
	Flags      *pflag.FlagSet // Add defines the flags there

	start T
	rows  []row
}

// row is an option with its flag and that flag's aliases.
type row struct {
	*Option
	flags flags
}

// flags are the spellings of one option. They are a viper.FlagValue.
type flags []*pflag.Flag

func (f flags) HasChanged() bool    { return f.given() != nil }
func (f flags) Name() string        { return f[0].Name }
func (f flags) ValueString() string { return f[0].Value.String() }
func (f flags) ValueType() string   { return "string" } // conf.Decode makes what the field needs

// given is the spelling that was used, nil if none was.
func (f flags) given() *pflag.Flag {
	if i := slices.IndexFunc(f, func(f *pflag.Flag) bool { return f.Changed }); i >= 0 {
		return f[i]
	}
	return nil
}

// New makes a table for the flags of a command. The fields of start are the defaults.
func New[T any](fs *pflag.FlagSet, start T) *Table[T] {
	return &Table[T]{start: start, Flags: fs, rows: make([]row, 0, 32)}
}

// Add defines options, in the order in which the help lists them.
func (t *Table[T]) Add(options ...Option) {
	t.Flags.SortFlags = false
	for i := range options {
		o := &options[i]
		o.Key = o.Name()
		to := o.To
		if to == nil {
			to = t.variable(o)
		}
		t.rows = append(t.rows, row{o, define(t.Flags, o, to)})
	}
}

// Include adds the options of another table, whose flags belong to a parent command.
func (t *Table[T]) Include(other *Table[T]) { t.rows = append(t.rows, other.rows...) }

// Define defines flags without a table: each option has a To.
func Define(fs *pflag.FlagSet, options ...Option) {
	fs.SortFlags = false
	for i := range options {
		define(fs, &options[i], options[i].To)
	}
}

// variable makes a variable of the field's type that holds the default; a string if the
// field is a pointer or an interface. It panics if no field has the key.
func (t *Table[T]) variable(o *Option) any {
	value := reflect.ValueOf(o.Default)
	if o.Default == nil {
		value = conf.Field(reflect.ValueOf(&t.start).Elem(), o.Key)
	}
	switch value.Kind() {
	case reflect.Interface, reflect.Pointer:
		return new(string)
	}
	to := reflect.New(value.Type())
	to.Elem().Set(value)
	return to.Interface()
}

// define makes the flags of an option, bound to a variable.
func define(fs *pflag.FlagSet, o *Option, to any) flags {
	if o.Flag == "" {
		return nil
	}
	switch to := to.(type) {
	case pflag.Value:
		fs.Var(to, o.Flag, o.Help)
	case *bool:
		fs.BoolVar(to, o.Flag, *to, o.Help)
	case *int:
		fs.IntVar(to, o.Flag, *to, o.Help)
	case *uint64:
		fs.Uint64Var(to, o.Flag, *to, o.Help)
	case *time.Duration:
		fs.DurationVar(to, o.Flag, *to, o.Help)
	case *[]string:
		fs.StringArrayVar(to, o.Flag, *to, o.Help)
	case *string:
		fs.StringVar(to, o.Flag, *to, o.Help)
	default:
		panic(fmt.Sprintf("option: no flag is of the type of %s: %T", o.Flag, to))
	}
	main := fs.Lookup(o.Flag)
	if o.Bare != "" {
		main.NoOptDefVal = o.Bare
	}
	command.Describe(main, o.Group, o.Env, o.Rare)
	out := flags{main}
	for _, name := range strings.Fields(o.Also) {
		also := *main
		also.Name = name
		command.Alias(&also, o.Flag)
		fs.AddFlag(&also)
		out = append(out, &also)
	}
	return out
}

// check checks the values of the command line.
func (t *Table[T]) check() error {
	for _, r := range t.rows {
		if f := r.flags.given(); f != nil && r.Check != nil {
			if err := r.Check(f.Value.String()); err != nil {
				return command.WrongValue(f.Name, f.Value.String(), err)
			}
		}
	}
	return nil
}

// Resolve fills a T from the command line, the environment and the configuration files,
// which are one map that conf.Check has returned. It may be called again.
func (t *Table[T]) Resolve(file map[string]any) (*T, Origins, error) {
	origins := Origins{order: [3]Source{File, Environment, Flag}, flag: map[string]string{}, from: map[string]Source{}}
	if t.FilesFirst {
		origins.order = [3]Source{Environment, File, Flag}
	}
	if err := t.check(); err != nil {
		return nil, origins, err
	}
	v := viper.New()
	if err := v.MergeConfigMap(conf.Merge(nil, file)); err != nil { // a copy: viper writes into it
		return nil, origins, fmt.Errorf("merge the configuration: %w", err)
	}
	out := conf.Merge(nil, file)
	for _, r := range t.rows {
		if r.To != nil {
			continue
		}
		if v.InConfig(r.Key) {
			origins.from[r.Key] |= File
		}
		if name := r.variable(); name != "" {
			if t.FilesFirst {
				v.SetDefault(r.Key, os.Getenv(name))
			} else if err := v.BindEnv(r.Key, name); err != nil {
				return nil, origins, fmt.Errorf("bind %s: %w", name, err)
			}
			origins.from[r.Key] |= Environment
		}
		if f := r.flags.given(); f != nil {
			origins.from[r.Key] |= Flag
			origins.flag[r.Key] = f.Name
			if list, ok := f.Value.(pflag.SliceValue); ok { // behind those of the files
				have, _ := v.Get(r.Key).([]any)
				for _, s := range list.GetSlice() {
					have = append(have[:len(have):len(have)], s)
				}
				v.Set(r.Key, have)
			} else if err := v.BindFlagValue(r.Key, r.flags); err != nil {
				return nil, origins, fmt.Errorf("bind -%s: %w", f.Name, err)
			}
		}
		if from := origins.winner(r.Key); from != 0 && from != File { // out has the files' values already
			conf.Put(out, r.Key, v.Get(r.Key))
		}
	}
	resolved := t.start
	if err := conf.Decode(out, &resolved); err != nil {
		return nil, origins, fmt.Errorf("read configuration: %w", err)
	}
	return &resolved, origins, nil
}

// variable is the environment variable that sets the option, "" if none does. A MUSTER_
// variable that is set hides those after it, even if it is empty. A boolean counts only
// if it is not the default, so that CONSUL_HTTP_SSL=false does not override a file.
func (r row) variable() string {
	for _, name := range command.Variables(r.Env) {
		value, ok := os.LookupEnv(name)
		if !ok || value == "" && !strings.HasPrefix(name, "MUSTER_") {
			continue
		}
		if usual, ok := r.Default.(bool); ok {
			if b, err := strconv.ParseBool(value); err != nil || b == usual {
				return ""
			}
		}
		if value == "" {
			return ""
		}
		return name
	}
	return ""
}

// GivenWithoutEffect lists the flags with Warn that were given.
func (t *Table[T]) GivenWithoutEffect() (names []string) {
	for _, r := range t.rows {
		if f := r.flags.given(); f != nil && r.Warn {
			names = append(names, "-"+f.Name)
		}
	}
	return names
}

// Given reports whether the flag was given.
func (t *Table[T]) Given(flag string) bool {
	return slices.ContainsFunc(t.rows, func(r row) bool { return r.Flag == flag && r.flags.HasChanged() })
}
