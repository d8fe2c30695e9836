package operator

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func TestRegistrationFromFlags(t *testing.T) {
	tests := []struct {
		name  string
		flags ServiceFlags
		want  string
		err   string
	}{
		{name: "all", want: `{"Kind":"k","ID":"w1","Name":"web","Tags":["a","b"],"Port":80,"Address":"10.0.0.1","SocketPath":"/s",` +
			`"TaggedAddresses":{"lan":{"Address":"10.0.0.1","Port":0},"v6":{"Address":"::1","Port":8080},"wan":{"Address":"example.org","Port":443}},"Meta":{"k":"v=w"}}`,
			flags: ServiceFlags{ID: "w1", Name: "web", Kind: "k", Address: "10.0.0.1", Socket: "/s", Port: 80, Tags: []string{"a", "b"},
				Meta: []string{"k=v=w"}, TaggedAddresses: []string{"lan=10.0.0.1", "wan=example.org:443", "v6=[::1]:8080"}}},
		{name: "bare IPv6", want: `{"Name":"web","TaggedAddresses":{"v6":{"Address":"fe80::1","Port":0}}}`,
			flags: ServiceFlags{Name: "web", TaggedAddresses: []string{"v6=fe80::1"}}},
		{name: "meta", flags: ServiceFlags{Meta: []string{"x"}}, err: `Error! Invalid value "x" for flag -meta: it is not key=value`},
		{name: "tagged port", flags: ServiceFlags{TaggedAddresses: []string{"lan=a:70000"}},
			err: `Error! Invalid -tagged-address lan=a:70000: port "70000" is not a number up to 65535`},
		{name: "tagged nonsense", flags: ServiceFlags{TaggedAddresses: []string{"lan=a:b:c"}},
			err: `Error! Invalid -tagged-address lan=a:b:c: address a:b:c: too many colons in address`},
		{name: "port", flags: ServiceFlags{Port: 70000}, err: "Error! Invalid -port 70000: must be between 0 and 65535"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg, err := tt.flags.Registration()
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			got, _ := json.Marshal(reg)
			if err != nil || string(got) != tt.want {
				t.Fatalf("%v\n%s, want\n%s", err, got, tt.want)
			}
		})
	}
}

func TestRegisterAndDeregister(t *testing.T) {
	web, db := &api.AgentServiceRegistration{Name: "web", Port: 80}, &api.AgentServiceRegistration{ID: "db-1", Name: "db"}
	register := func(ctx context.Context, c *client.Client, s streams) error {
		return RegisterServices(ctx, c, s.out, []*api.AgentServiceRegistration{web, db})
	}
	deregister := func(services ...*api.AgentServiceRegistration) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return DeregisterServices(ctx, c, s.out, services)
		}
	}
	testAll(t, []exchange{
		{name: "register", agent: map[string]reply{"PUT /v1/agent/service/register": {}}, run: register,
			out: "Registered service: web\nRegistered service: db\n", bodies: []string{`{"Name":"web","Port":80}`, `{"ID":"db-1","Name":"db"}`}},
		{name: "refused", agent: map[string]reply{"PUT /v1/agent/service/register": {code: 400, body: "Invalid check"}}, run: register,
			err: `Error registering service "web": Unexpected response code: 400 (Invalid check)`},
		{name: "deregister", agent: map[string]reply{"PUT /v1/agent/service/deregister/web": {}, "PUT /v1/agent/service/deregister/db-1": {}},
			run: deregister(web, db), out: "Deregistered service: web\nDeregistered service: db-1\n"},
		{name: "unknown", agent: map[string]reply{"PUT /v1/agent/service/deregister/x": {code: 404, body: "Unknown service ID"}},
			run: deregister(&api.AgentServiceRegistration{ID: "x"}), err: `Error deregistering service "": Unexpected response code: 404 (Unknown service ID)`},
	})
}
