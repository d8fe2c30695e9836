package connflags

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/client"
)

// parse makes Flags of a command line, with no environment but env.
func parse(t *testing.T, env map[string]string, args ...string) (*Flags, client.Config) {
	t.Helper()
	for _, name := range []string{"HTTP_ADDR", "HTTP_TOKEN", "HTTP_TOKEN_FILE", "HTTP_AUTH", "HTTP_SSL", "HTTP_SSL_VERIFY", "TOKEN"} {
		t.Setenv("CONSUL_"+name, env["CONSUL_"+name])
	}
	if v, ok := env["MUSTER_HTTP_ADDR"]; ok {
		t.Setenv("MUSTER_HTTP_ADDR", v)
	}
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	f := Add(fs)
	f.AddDatacenter()
	f.AddConsul()
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := f.Config("test")
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func TestPrecedence(t *testing.T) {
	env := map[string]string{"CONSUL_HTTP_ADDR": "env:1", "CONSUL_HTTP_TOKEN": "t-env", "CONSUL_HTTP_SSL": "true"}
	_, c := parse(t, env)
	if c.Address != "env:1" || c.Token != "t-env" || !c.SSL {
		t.Errorf("environment: %+v", c)
	}
	_, c = parse(t, env, "--http-addr=flag:2", "--consul-token=t-flag", "--consul-ssl=false", "--consul-ssl-verify=false")
	if c.Address != "flag:2" || c.Token != "t-flag" || c.SSL || !c.InsecureSkipVerify {
		t.Errorf("flags: %+v", c)
	}
	_, c = parse(t, map[string]string{"CONSUL_HTTP_TOKEN_FILE": "/f"}, "--token=t")
	if c.Token != "t" || c.TokenFile != "" {
		t.Errorf("a token by flag beats a file by environment: %+v", c)
	}
	_, c = parse(t, nil, "--token=t", "--token-file=/f")
	if c.TokenFile != "/f" {
		t.Errorf("a file by flag beats a token by flag: %+v", c)
	}
	_, c = parse(t, map[string]string{"CONSUL_TOKEN": "old"})
	if c.Token != "old" {
		t.Errorf("CONSUL_TOKEN: %+v", c)
	}
	_, c = parse(t, map[string]string{"CONSUL_HTTP_ADDR": "c:1", "MUSTER_HTTP_ADDR": "m:1"})
	if c.Address != "m:1" {
		t.Errorf("MUSTER_HTTP_ADDR: %+v", c)
	}
}

// A flag of TLS is never without effect: it means https, or is refused.
func TestFlagsOfTLSMeanHTTPS(t *testing.T) {
	for _, name := range tlsFlags {
		if _, c := parse(t, nil, "--"+name+"=x"); !c.SSL {
			t.Errorf("-%s alone: plain http", name)
		}
	}
	if _, c := parse(t, map[string]string{"CONSUL_CACERT": "/ca"}); c.SSL {
		t.Error("the environment switches https on by CONSUL_HTTP_SSL alone")
	}
	if _, c := parse(t, nil, "--ca-file=x", "--http-addr=https://a:1"); c.Address != "https://a:1" {
		t.Errorf("%+v", c)
	}
	for _, args := range [][]string{
		{"--ca-file=x", "--http-addr=http://a:1"},
		{"--client-cert=x", "--http-addr=unix:///run/a"},
		{"--consul-ssl-ca-cert=x", "--consul-ssl=false"},
	} {
		fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
		f := Add(fs)
		f.AddConsul()
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Config("test"); err == nil || !strings.Contains(err.Error(), "https://HOST:PORT") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestRetry(t *testing.T) {
	f, _ := parse(t, nil)
	if n, backoff, most := f.Retry(); n != 0 || backoff != 250*time.Millisecond || most != time.Minute {
		t.Errorf("default: %d %s %s", n, backoff, most)
	}
	f, _ = parse(t, nil, "--consul-retry=false")
	if n, _, _ := f.Retry(); n != 1 {
		t.Errorf("without retry: %d attempts", n)
	}
}

func TestEnviron(t *testing.T) {
	got := Environ(client.Config{Address: "a:1", Token: "t", InsecureSkipVerify: true})
	for _, want := range []string{"CONSUL_HTTP_ADDR=a:1", "MUSTER_HTTP_ADDR=a:1", "CONSUL_HTTP_TOKEN=t", "CONSUL_HTTP_SSL_VERIFY=false"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q lacks %s", got, want)
		}
	}
	if len(got) != 6 {
		t.Errorf("%q", got)
	}
}
