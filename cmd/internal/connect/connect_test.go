package connect

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/settings"
)

// try resolves a command line and files, with no environment but env.
func try(t *testing.T, env map[string]string, files map[string]any, args ...string) (*Settings, client.Config, error) {
	t.Helper()
	for _, name := range []string{"HTTP_ADDR", "HTTP_TOKEN", "HTTP_TOKEN_FILE", "HTTP_AUTH", "HTTP_SSL", "HTTP_SSL_VERIFY", "TOKEN", "CACERT"} {
		t.Setenv("CONSUL_"+name, env["CONSUL_"+name])
	}
	if v, ok := env["MUSTER_HTTP_ADDR"]; ok {
		t.Setenv("MUSTER_HTTP_ADDR", v)
	}
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	table := option.New(fs, Settings{})
	table.FilesFirst = env["files first"] != ""
	table.Add(ConsulOptions()...)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	s, from, err := table.Resolve(files)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Config(&s.Consul, from, "test")
	return s, c, err
}

func parse(t *testing.T, env map[string]string, args ...string) (*Settings, client.Config) {
	t.Helper()
	s, c, err := try(t, env, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// The environment wins over files, but where consul-template's files are read.
func TestPrecedenceOfFiles(t *testing.T) {
	env := map[string]string{"CONSUL_HTTP_ADDR": "env:1", "CONSUL_HTTP_TOKEN_FILE": "/env", "CONSUL_HTTP_AUTH": "env:x", "CONSUL_HTTP_SSL": "false"}
	files := map[string]any{"consul": map[string]any{
		"address": "file:1", "token": "file", "auth": map[string]any{"username": "u", "password": "p"}, "ssl": map[string]any{"verify": false},
	}}
	_, c, err := try(t, env, files)
	if err != nil || c.Address != "env:1" || c.TokenFile != "/env" || c.HTTPAuth != "env:x" || !c.SSL || !c.InsecureSkipVerify {
		t.Errorf("environment first: %+v, %v", c, err)
	}
	env["files first"] = "true"
	_, c, err = try(t, env, files)
	if err != nil || c.Address != "file:1" || c.Token != "file" || c.TokenFile != "" || c.HTTPAuth != "u:p" || !c.SSL {
		t.Errorf("files first: %+v, %v", c, err)
	}
	_, c, err = try(t, env, files, "--consul-auth=a:b", "--token-file=/flag", "--datacenter=dc2", "--consul-ssl=false")
	if err != nil || c.HTTPAuth != "a:b" || c.TokenFile != "/flag" || c.Datacenter != "dc2" || c.SSL {
		t.Errorf("flags over both: %+v, %v", c, err)
	}
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
	_, c = parse(t, map[string]string{
		"CONSUL_HTTP_ADDR": "c:1", "MUSTER_HTTP_ADDR": "m:1", "CONSUL_HTTP_TOKEN": "from consul", "CONSUL_HTTP_SSL_VERIFY": "false",
	})
	if c.Address != "m:1" || c.Token != "from consul" || !c.InsecureSkipVerify {
		t.Errorf("MUSTER_ beside CONSUL_: %+v", c)
	}
}

// The consul block of consul-template's files, over the environment.
func TestConsulBlock(t *testing.T) {
	env := map[string]string{
		"files first": "true", "CONSUL_HTTP_ADDR": "env:1", "CONSUL_HTTP_TOKEN": "env", "CONSUL_HTTP_TOKEN_FILE": "env", "CONSUL_CACERT": "env",
	}
	for text, want := range map[string]client.Config{
		``:                              {Address: "env:1", Token: "env", TokenFile: "env", CAFile: "env"},
		`consul = "c:1"`:                {Address: "c:1", Token: "env", TokenFile: "env", CAFile: "env"},
		`consul { token = "t" }`:        {Address: "env:1", Token: "t", CAFile: "env"},
		`consul { ssl { cert = "c" } }`: {Address: "env:1", Token: "env", TokenFile: "env", CAFile: "env", CertFile: "c", SSL: true},
		`consul { ssl { verify = false enabled = true server_name = "n" } auth { username = "u" password = "p" } }`: {
			Address: "env:1", Token: "env", TokenFile: "env", CAFile: "env", SSL: true, InsecureSkipVerify: true, TLSServerName: "n", HTTPAuth: "u:p"},
		`consul { ssl { enabled = false ca_cert = "f" } auth { enabled = false username = "u" } }`: {
			Address: "env:1", Token: "env", TokenFile: "env", CAFile: "f"},
	} {
		files, _, err := settings.Read[Settings](settings.Sources{Inline: text, InlineName: "INLINE"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := try(t, env, files)
		if want.UserAgent = got.UserAgent; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", text, err, got, want)
		}
	}
	// Where the environment wins, the rest of the block still counts.
	delete(env, "files first")
	env["CONSUL_CACERT"] = ""
	_, c, err := try(t, env, map[string]any{"consul": map[string]any{"address": "file:1", "ssl": map[string]any{"ca_cert": "ca"}}})
	if err != nil || c.Address != "env:1" || c.Token != "env" || c.CAFile != "ca" || !c.SSL {
		t.Errorf("under: %+v, %v", c, err)
	}
}

// A flag of TLS is never without effect: it means https, or is refused.
func TestFlagsOfTLSMeanHTTPS(t *testing.T) {
	for _, name := range []string{
		"ca-file", "ca-path", "client-cert", "client-key", "tls-server-name",
		"consul-ssl-ca-cert", "consul-ssl-ca-path", "consul-ssl-cert", "consul-ssl-key", "consul-ssl-server-name",
	} {
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
		if _, _, err := try(t, nil, nil, args...); err == nil || !strings.Contains(err.Error(), "https://HOST:PORT") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestRetry(t *testing.T) {
	s, _ := parse(t, nil)
	if r := s.Consul.Retry.Watch(); r.Attempts != 0 || r.Backoff != 250*time.Millisecond || r.MaxBackoff != time.Minute {
		t.Errorf("default: %+v", r)
	}
	s, _ = parse(t, nil, "--consul-retry=false")
	if r := s.Consul.Retry.Watch(); r.Attempts != 1 {
		t.Errorf("without retry: %+v", r)
	}
	if _, _, err := try(t, nil, nil, "--consul-retry-backoff=-1s"); err == nil {
		t.Error("a delay below zero is taken")
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
