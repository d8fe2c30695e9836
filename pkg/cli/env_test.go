package cli

import (
	"strings"
	"syscall"
	"testing"
)

func TestEnvBuild(t *testing.T) {
	own := []string{"PATH=/bin", "HOME=/root", "SECRET=1", "CONSUL_HTTP_ADDR=old"}
	extra := []string{"CONSUL_HTTP_ADDR=new"}
	tests := []struct {
		name string
		env  Env
		want string
	}{
		{"all", Env{}, "PATH=/bin HOME=/root SECRET=1 CONSUL_HTTP_ADDR=new"},
		{"pristine", Env{Pristine: true, Custom: []string{"A=b=c"}}, "CONSUL_HTTP_ADDR=new A=b=c"},
		{"allow", Env{Allow: []string{"P*", "S*"}}, "PATH=/bin SECRET=1"},
		{"deny wins", Env{Allow: []string{"P*", "S*"}, Deny: []string{"SEC*"}}, "PATH=/bin"},
		{"custom stays", Env{Deny: []string{"*"}, Custom: []string{"SECRET=2"}}, "SECRET=2"},
		{"custom replaces", Env{Custom: []string{"HOME=/x"}}, "PATH=/bin SECRET=1 CONSUL_HTTP_ADDR=new HOME=/x"},
	}
	for _, tt := range tests {
		got, err := tt.env.Build(own, extra)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	for _, bad := range []Env{{Custom: []string{"A"}}, {Custom: []string{"=x"}}, {Deny: []string{"[a"}}} {
		if got, err := bad.Build(own, nil); err == nil {
			t.Errorf("%+v: %q", bad, got)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"": 0, "SIGHUP": syscall.SIGHUP, "hup": syscall.SIGHUP, "TERM": syscall.SIGTERM, "9": syscall.SIGKILL,
	} {
		if got, err := ParseSignal(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"SIGNOPE", "0", "-1", "1000"} {
		if got, err := ParseSignal(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}
