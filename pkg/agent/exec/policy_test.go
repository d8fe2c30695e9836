package exec

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/signed"
)

const someJob = "11111111-2222-3333-4444-555555555555"

func request(t *testing.T, change ...func(*api.ExecOrder)) api.ExecRequest {
	t.Helper()
	o := api.ExecOrder{
		ID: someJob, Command: []string{"uptime"}, Targets: []string{"Web-1"}, Wait: api.Duration(time.Second),
		Expires: time.Now().Add(time.Minute),
	}
	for _, c := range change {
		c(&o)
	}
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return api.ExecRequest{Order: data}
}

func named(job string, args ...string) func(*api.ExecOrder) {
	return func(o *api.ExecOrder) { o.Command, o.Job, o.Args = nil, job, args }
}

func signer(t *testing.T) *signed.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := signed.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPolicyDecides(t *testing.T) {
	open := Policy{Enabled: true, Datacenter: "dc1", Node: "web-1"}
	listed := open
	listed.Jobs = map[string]NamedJob{
		"restart": {Argv: []string{"systemctl", "restart"}, Args: regexp.MustCompile(`\A(?:nginx|haproxy)\z`), User: "ops", Timeout: time.Minute},
		"fixed":   {Argv: []string{"true"}},
	}
	for _, tc := range []struct {
		name   string
		policy Policy
		req    api.ExecRequest
		want   string // the command, or part of the error
	}{
		{"off", Policy{Node: "web-1"}, request(t), "enable_remote_exec"},
		{"command", open, request(t), "[uptime]"},
		{"shell", open, request(t, func(o *api.ExecOrder) { o.Shell = true }), "[sh -c uptime]"},
		{"another node's", open, request(t, func(o *api.ExecOrder) { o.Targets = []string{"web-2"} }), "not among the order's targets"},
		{"another datacenter's", open, request(t, func(o *api.ExecOrder) { o.Datacenter = "dc2" }), `datacenter "dc2"`},
		{"expired", open, request(t, func(o *api.ExecOrder) { o.Expires = time.Now() }), "expired"},
		{"never expires", open, request(t, func(o *api.ExecOrder) { o.Expires = time.Time{} }), "expired"},
		{"named without a list", open, request(t, named("restart")), `no job "restart"`},
		{"a command beside a list", listed, request(t), "named jobs only"},
		{"a script beside a list", listed, request(t, func(o *api.ExecOrder) { o.Command, o.Script = nil, []byte("x") }), "named jobs only"},
		{"named", listed, request(t, named("restart", "nginx", "haproxy")), "[systemctl restart nginx haproxy]"},
		{"named, bad argument", listed, request(t, named("restart", "nginx", "nginx;x")), `does not take the argument "nginx;x"`},
		{"named, no arguments", listed, request(t, named("fixed", "x")), "takes no arguments"},
		{"unknown", listed, request(t, named("reboot")), `no job "reboot"`},
		{"not an order", open, api.ExecRequest{Order: []byte("{")}, "read the order"},
	} {
		p, err := tc.policy.plan(tc.req, time.Now())
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = "[" + strings.Join(p.argv, " ") + "]"
		}
		if err == nil && got != tc.want || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	p, err := listed.plan(request(t, named("restart", "nginx"), func(o *api.ExecOrder) { o.Timeout = api.Duration(time.Hour) }), time.Now())
	if err != nil || p.timeout != time.Minute || p.user != "ops" {
		t.Errorf("plan is %+v, %v", p, err)
	}
}

func TestPolicyWithKeys(t *testing.T) {
	known, foreign := signer(t), signer(t)
	policy := Policy{Enabled: true, Node: "web-1", Keys: []signed.Key{signer(t).Key, known.Key}}
	sign := func(s *signed.Signer, namespace string, r api.ExecRequest) api.ExecRequest {
		var err error
		r.Key = known.Key.Line() // what is claimed does not count
		if r.Signature, err = s.Sign(namespace, r.Order); err != nil {
			t.Fatal(err)
		}
		return r
	}
	good := sign(known, api.ExecNamespace, request(t))
	if p, err := policy.plan(good, time.Now()); err != nil || p.signer != known.Key.Fingerprint() {
		t.Errorf("%+v, %v", p, err)
	}
	swapped := good
	swapped.Order = request(t, func(o *api.ExecOrder) { o.Command = []string{"reboot"} }).Order
	for name, r := range map[string]api.ExecRequest{
		"unsigned":          request(t),
		"foreign":           sign(foreign, api.ExecNamespace, request(t)),
		"another namespace": sign(known, "something else", request(t)),
		"another order":     swapped,
		"another's target":  sign(known, api.ExecNamespace, request(t, func(o *api.ExecOrder) { o.Targets = []string{"db-1"} })),
	} {
		if p, err := policy.plan(r, time.Now()); err == nil {
			t.Errorf("%s: it would run %v", name, p.argv)
		}
	}
}

// A signed order runs once, also after a restart, until it has expired.
func TestSeenRefusesReplays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seen.json")
	now := time.Unix(1000, 0)
	load := func(at time.Time) *seen {
		s, err := loadSeen(path, at)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := load(now).add("a", now.Add(time.Minute), now); err != nil {
		t.Fatal(err)
	}
	s := load(now)
	if err := s.add("a", now.Add(time.Minute), now); err == nil || err.Error() != "the signed order was used before" {
		t.Errorf("error is %v", err)
	}
	if err := s.add("b", now.Add(time.Minute), now); err != nil {
		t.Error(err)
	}
	if s := load(now.Add(time.Minute)); len(s.ids) != 0 {
		t.Errorf("expired orders are kept: %v", s.ids)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSeen(path, now); err == nil {
		t.Error("a damaged file is no reason to stop")
	}
	broken := &seen{path: filepath.Join(path, "not", "a", "directory"), ids: map[string]time.Time{}}
	if err := broken.add("c", now.Add(time.Minute), now); err == nil {
		t.Error("an order is run that could not be noted")
	}
}
