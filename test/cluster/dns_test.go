package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/test/harness"
)

// resolver asks an agent over UDP, or TCP where an answer was cut short.
func resolver(a *agent) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, a.IP+":8600")
	}}
}

// soon is the time in which what is in memory is answered.
func soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Second)
}

// ports are those of the instances of a service.
func ports(ctx context.Context, a *agent, service string) (map[uint16]bool, error) {
	ctx, cancel := soon(ctx)
	defer cancel()
	_, all, err := resolver(a).LookupSRV(ctx, "", "", service+".service.consul.")
	out := map[uint16]bool{}
	for _, srv := range all {
		out[srv.Port] = true
	}
	return out, err
}

// awaitKept waits until a client agent answers a name without its server, which
// stands still for each try.
func awaitKept(c, server *agent, name string) {
	c.C.T.Helper()
	harness.Until(c.C.T, name+" is kept", func(ctx context.Context) error {
		_, _ = resolver(c).LookupHost(ctx, name)
		server.Pause()
		defer server.Resume()
		ctx, cancel := soon(ctx)
		defer cancel()
		_, err := resolver(c).LookupHost(ctx, name)
		if isAbsent(err) {
			return nil
		}
		return err
	})
}

func isAbsent(err error) bool {
	var failed *net.DNSError
	return errors.As(err, &failed) && failed.IsNotFound
}

// isRefused tells that an agent cannot answer, which it says only after having
// looked for a server for as long as most resolvers wait.
func isRefused(a *agent, name string) error {
	c := wire.Client{Timeout: 10 * time.Second}
	answer, _, err := c.Exchange(new(wire.Msg).SetQuestion(name, wire.TypeA), a.IP+":8600")
	if err == nil && answer.Rcode != wire.RcodeServerFailure {
		err = fmt.Errorf("%s instead of SERVFAIL", wire.RcodeToString[answer.Rcode])
	}
	return err
}

// A client agent follows the names that are asked for: what changes is in the next
// answers, random names do no harm, and without a server all goes on, for what was
// asked before.
func TestClientKeepsNames(t *testing.T) {
	c := harness.Start(t, 1, 1)
	server, client := c.Servers()[0], c.Agent("c1")
	server.RegisterNode("web", "web-1", 81)
	server.Register("tagged", "tagged-1", "Primary")
	for _, name := range []string{"web.service.consul.", "OutSide.node.consul.", "primary.Tagged.service.consul.", "missing.service.consul."} {
		awaitKept(client, server, name)
	}

	server.RegisterNode("web", "web-2", 82)
	harness.Within(t, time.Second, "a second instance is in the answer", func(ctx context.Context) error {
		if got, err := ports(ctx, client, "web"); err != nil || len(got) != 2 {
			return fmt.Errorf("ports %v, %w", got, err)
		}
		return nil
	})
	server.RegisterNode("missing", "missing-1", 83)
	harness.Within(t, time.Second, "what was missing is there", func(ctx context.Context) error {
		if got, err := ports(ctx, client, "missing"); err != nil || !got[83] {
			return fmt.Errorf("ports %v, %w", got, err)
		}
		return nil
	})

	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			for j := range 250 {
				if _, err := resolver(client).LookupHost(t.Context(), fmt.Sprintf("x%d-%d.service.consul.", i, j)); !isAbsent(err) {
					t.Errorf("a random name: %v", err)
				}
			}
		})
	}
	asking.Wait()

	server.Kill()
	for range 200 {
		if got, err := ports(t.Context(), client, "web"); err != nil || !got[81] || !got[82] || len(got) != 2 {
			t.Fatalf("without a server: ports %v, %v", got, err)
		}
	}
	for _, name := range []string{"outside.node.consul.", "PRIMARY.tagged.service.consul.", "missing.service.consul."} {
		ctx, cancel := soon(t.Context())
		if _, err := resolver(client).LookupHost(ctx, name); err != nil {
			t.Errorf("without a server: %s: %v", name, err)
		}
		cancel()
	}
	if err := isRefused(client, "never.service.consul."); err != nil {
		t.Errorf("a name that nobody knows, without a server: %v", err)
	}

	server.Start()
	server.AwaitReady()
	server.RegisterNode("web", "web-3", 84)
	harness.Until(t, "the client follows again", func(ctx context.Context) error {
		if got, err := ports(ctx, client, "web"); err != nil || len(got) != 3 {
			return fmt.Errorf("ports %v, %w", got, err)
		}
		return nil
	})
}

// What is in memory is not answered for longer than dns_config.max_stale after the
// last word of a server.
func TestClientForgetsNamesThatAreStale(t *testing.T) {
	c := harness.New(t)
	c.Launch(1, 0)
	client := c.Add("c1", false, `-hcl=dns_config { max_stale = "15s" }`)
	client.Start()
	client.AwaitReady()
	server := c.Servers()[0]
	server.RegisterNode("web", "web-1", 81)
	awaitKept(client, server, "web.service.consul.")
	server.Kill()
	if _, err := ports(t.Context(), client, "web"); err != nil {
		t.Fatalf("just after the server has gone: %v", err)
	}
	harness.Until(t, "a stale name is refused", func(context.Context) error { return isRefused(client, "web.service.consul.") })
}
