package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// ErrHelp is returned for -h and -help, unless there are flags of these names.
var ErrHelp = pflag.ErrHelp

// UnknownFlag is the error for a flag that does not exist.
type UnknownFlag struct {
	Name string
	Near string // an existing flag with a similar name; "" if there is none
}

func (e *UnknownFlag) Error() string {
	text := "flag provided but not defined: -" + e.Name
	if e.Near != "" {
		text += " (did you mean -" + e.Near + "?)"
	}
	return text
}

// Args are the parts of a command line; Split makes them.
type Args struct {
	Flags []string // each "--name" or "--name=value", as pflag takes them
	Rest  []string // from the first positional argument on, untouched
	Dash  bool     // a "--" stood before Rest
}

// All joins the parts to a command line that pflag reads as Split has read it.
func (a Args) All() []string {
	out := append([]string{}, a.Flags...)
	if len(a.Rest) == 0 && !a.Dash {
		return out
	}
	return append(append(out, "--"), a.Rest...)
}

// Split splits args by the rules of Go's flag package: -x v, -x=v, --x v and --x=v are
// the same, a boolean has a value only after "=", the argument after any other flag is
// its value whatever it looks like, and the first argument that is no flag ends the
// flags.
func Split(flags *pflag.FlagSet, args []string) (Args, error) {
	var out Args
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			out.Dash, out.Rest = true, args[1:]
			return out, nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			out.Rest = args
			return out, nil
		}
		args = args[1:]
		token, used, err := rewrite(flags, arg, args)
		if err != nil {
			return out, err
		}
		out.Flags = append(out.Flags, token)
		args = args[used:]
	}
	return out, nil
}

// rewrite turns one flag into pflag's form. It also returns how many of the arguments
// after it are its value.
func rewrite(flags *pflag.FlagSet, arg string, next []string) (string, int, error) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
	if name == "" || name[0] == '-' {
		return "", 0, fmt.Errorf("bad flag syntax: %s", arg)
	}
	f := flags.Lookup(name)
	if f == nil && len(name) == 1 {
		f = flags.ShorthandLookup(name)
	}
	switch {
	case f == nil && (name == "h" || name == "help"):
		return "", 0, ErrHelp
	case f == nil:
		return "", 0, &UnknownFlag{Name: name}
	case hasValue:
		return "--" + f.Name + "=" + value, 0, nil
	case f.NoOptDefVal != "":
		return "--" + f.Name, 0, nil
	case len(next) == 0:
		return "", 0, fmt.Errorf("flag needs an argument: -%s", name)
	}
	return "--" + f.Name + "=" + next[0], 1, nil
}

// FlagError rewords pflag's error about a value: the flag has one dash.
func FlagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("invalid value %q for flag -%s: %w", bad.GetValue(), bad.GetFlag().Name, bad.Unwrap())
}
