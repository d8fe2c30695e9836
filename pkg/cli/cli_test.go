package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testFlags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	fs.StringArray("template", nil, "")
	fs.Int("http-port", 0, "")
	fs.Bool("once", false, "")
	fs.BoolP("version", "v", false, "")
	fs.Duration("wait", 0, "")
	return fs
}

func TestSplit(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		flags []string
		rest  []string
		dash  bool
		err   string
	}{
		{name: "one dash", args: []string{"-template", "a:b"}, flags: []string{"--template=a:b"}},
		{name: "equals", args: []string{"-template=a=b"}, flags: []string{"--template=a=b"}},
		{name: "two dashes", args: []string{"--template", "x"}, flags: []string{"--template=x"}},
		{name: "value like a number below zero", args: []string{"-http-port", "-1"}, flags: []string{"--http-port=-1"}},
		{name: "value like a flag", args: []string{"-template", "-once", "-once"}, flags: []string{"--template=-once", "--once"}},
		{name: "value like the end of flags", args: []string{"-template", "--"}, flags: []string{"--template=--"}},
		{name: "empty value", args: []string{"-template", ""}, flags: []string{"--template="}},
		{name: "bool takes no token", args: []string{"-once", "false"}, flags: []string{"--once"}, rest: []string{"false"}},
		{name: "bool by equals", args: []string{"-once=false"}, flags: []string{"--once=false"}},
		{name: "shorthand", args: []string{"-v"}, flags: []string{"--version"}},
		{name: "first positional ends", args: []string{"-once", "cmd", "-once", "-nope"}, flags: []string{"--once"}, rest: []string{"cmd", "-once", "-nope"}},
		{name: "dash dash", args: []string{"-once", "--", "-x"}, flags: []string{"--once"}, rest: []string{"-x"}, dash: true},
		{name: "single dash is positional", args: []string{"-", "-once"}, rest: []string{"-", "-once"}},
		{name: "unknown", args: []string{"-x"}, err: "flag provided but not defined: -x"},
		{name: "unknown with two dashes", args: []string{"--nope=1"}, err: "flag provided but not defined: -nope"},
		{name: "no value", args: []string{"-template"}, err: "flag needs an argument: -template"},
		{name: "three dashes", args: []string{"---once"}, err: "bad flag syntax: ---once"},
		{name: "no name", args: []string{"-=x"}, err: "bad flag syntax: -=x"},
		{name: "help", args: []string{"-help"}, err: ErrHelp.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Split(testFlags(), tt.args)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Flags, tt.flags) || got.Dash != tt.dash ||
				fmt.Sprint(got.Rest) != fmt.Sprint(tt.rest) {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

func TestSplitThenParse(t *testing.T) {
	fs := testFlags()
	args, err := Split(fs, []string{"-template", "-a", "-http-port", "-1", "-v", "run", "-v", "--", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Parse(args.All()); err != nil {
		t.Fatal(err)
	}
	if port, _ := fs.GetInt("http-port"); port != -1 {
		t.Errorf("port %d", port)
	}
	if got := fs.Args(); !reflect.DeepEqual(got, []string{"run", "-v", "--", "x"}) {
		t.Errorf("rest %q", got)
	}
}

func TestFlagError(t *testing.T) {
	fs := testFlags()
	err := FlagError(fs.Parse([]string{"--wait=soon"}))
	want := `invalid value "soon" for flag -wait: must be a duration like "30s" or "5m"`
	if err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func TestCodeAndPrint(t *testing.T) {
	plain := errors.New("read file /x: permission denied")
	tests := []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{plain, 1, "tmpl: error: read file /x: permission denied\n"},
		{Exit(7, nil), 7, ""},
		{Exit(14, plain), 14, "tmpl: error: read file /x: permission denied\n"},
		{fmt.Errorf("start: %w", Hint(15, plain, "use sudo")), 15,
			"tmpl: error: start: read file /x: permission denied\ntmpl: hint: use sudo\n"},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		Print(&buf, "tmpl", tt.err)
		if Code(tt.err) != tt.code || buf.String() != tt.text {
			t.Errorf("%v: code %d, text %q", tt.err, Code(tt.err), buf.String())
		}
	}
}

func TestSignalContext(t *testing.T) {
	ctx, stop := SignalContext(context.Background(), syscall.SIGUSR2)
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	var got *Interrupt
	if !errors.As(context.Cause(ctx), &got) || got.Signal != syscall.SIGUSR2 {
		t.Fatalf("cause %v", context.Cause(ctx))
	}
}

func TestSignalContextStops(t *testing.T) {
	ctx, stop := SignalContext(context.Background(), syscall.SIGUSR2)
	stop()
	if ctx.Err() == nil {
		t.Fatal("context lives on after stop")
	}
}
