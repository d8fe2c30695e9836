package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// session creates one through an agent.
func session(a *agent, s api.SessionCreate) string {
	a.C.T.Helper()
	id, err := a.SessionCreate(a.C.T.Context(), s, nil)
	if err != nil {
		a.C.T.Fatal(err)
	}
	return id
}

func noDelay() *api.Duration { return new(api.Duration) }

// holder is the session that holds a key, by stale reads, which need no leader.
func holder(ctx context.Context, a *agent, key string) (string, error) {
	pair, _, err := a.KVGet(ctx, key, &client.Options{Stale: true})
	if err != nil || pair == nil {
		return "", errors.Join(err, fmt.Errorf("%s is %+v", key, pair))
	}
	return pair.Session, nil
}

// A lock whose session is not renewed is free at its TTL and soon after; whose
// leader dies meanwhile, never before, and at most its TTL and the time without a
// leader later.
func TestTTLAcrossAChangeOfLeader(t *testing.T) {
	c := harness.Start(t, 3, 1, `-hcl=session_ttl_min = "1s"`, prompt)
	awaitOneCluster(c, 3, 3)
	const ttl = 3 * time.Second
	at := c.Agent("c1")
	hold := func() (renewed time.Time, id string) {
		id = session(at, api.SessionCreate{TTL: ttl.String(), LockDelay: noDelay(), NodeChecks: []string{}})
		if ok, err := at.KVPut(t.Context(), "l", nil, client.KVWrite{Acquire: id}, nil); !ok || err != nil {
			t.Fatalf("acquired: %v, %v", ok, err)
		}
		time.Sleep(ttl * 2 / 3)
		renewed = time.Now() // before the renewal is sent: what a holder counts from
		if s, err := at.SessionRenew(t.Context(), id, nil); s == nil || err != nil {
			t.Fatalf("renewed: %v, %v", s, err)
		}
		return renewed, id
	}
	freed := func() time.Time {
		harness.Within(t, 30*time.Second, "the lock is free", func(ctx context.Context) error {
			if id, err := holder(ctx, at, "l"); err != nil || id != "" {
				return errors.Join(err, errors.New("held by "+id))
			}
			return nil
		})
		return time.Now()
	}
	const slack = 2 * time.Second // a busy machine
	renewed, _ := hold()
	if lived := freed().Sub(renewed); lived < ttl || lived > ttl+250*time.Millisecond+slack {
		t.Errorf("without a change of leader it was free after %v", lived)
	}
	renewed, _ = hold()
	c.Leader().Kill()
	killed := time.Now()
	c.Leader()
	without := time.Since(killed)
	if lived := freed().Sub(renewed); lived < ttl || lived > 2*ttl+without+250*time.Millisecond+slack {
		t.Errorf("with one, %v without a leader, it was free after %v", without, lived)
	}
}

// A lock without a lock-delay is free when its TTL of 10 s is over, not after
// twice that, and within a second.
func TestLockIsFreeAtItsTTL(t *testing.T) {
	c := harness.Start(t, 1, 0)
	server := c.Agent("s1")
	began := time.Now()
	id := session(server, api.SessionCreate{TTL: "10s", LockDelay: noDelay()})
	if ok, err := server.KVPut(t.Context(), "l", nil, client.KVWrite{Acquire: id}, nil); !ok || err != nil {
		t.Fatalf("acquired: %v, %v", ok, err)
	}
	rival := session(server, api.SessionCreate{})
	slowest := time.Duration(0) // how busy the machine is
	for {
		asked := time.Now()
		ok, err := server.KVPut(t.Context(), "l", nil, client.KVWrite{Acquire: rival}, nil)
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(asked))
		if ok {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took < 10*time.Second || took > 11*time.Second+2*slowest {
		t.Errorf("free after %v; the slowest request took %v", took, slowest)
	}
}

// An agent that is back within the detection time ends no session, one that
// leaves none that has a TTL and no checks; and the name of an election is the
// node of who holds it.
func TestSessionsOutliveTheirAgent(t *testing.T) {
	c := harness.Start(t, 1, 2)
	server, at, asked := c.Agent("s1"), c.Agent("c1"), c.Agent("c2")
	bound := session(at, api.SessionCreate{})
	timed := session(at, api.SessionCreate{TTL: "1h", NodeChecks: []string{}})
	for _, key := range []string{"l", api.ElectionKey("jobs")} {
		if ok, err := asked.KVPut(t.Context(), key, nil, client.KVWrite{Acquire: timed}, nil); !ok || err != nil {
			t.Fatalf("acquired: %v, %v", ok, err)
		}
	}
	for _, a := range []*agent{server, asked} {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, a.IP+":8600")
		}}
		if ips, err := resolver.LookupHost(t.Context(), "jobs.leader.consul."); err != nil || len(ips) != 1 || ips[0] != at.IP {
			t.Errorf("%s says that %q leads, %v", a.Name, ips, err)
		}
	}
	at.Kill()
	at.Start()
	c.AwaitReady()
	sessions, _, err := server.SessionList(t.Context(), nil)
	if err != nil || len(sessions) != 2 {
		t.Fatalf("after a restart of the agent: %d sessions, %v", len(sessions), err)
	}
	at.Signal(syscall.SIGTERM) // a client leaves
	if code := at.Exit(); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
	harness.Within(t, 20*time.Second, "the leave ends what depends on the node", func(ctx context.Context) error {
		if s, _, err := server.SessionInfo(ctx, bound, nil); err != nil || s != nil {
			return fmt.Errorf("%+v, %v", s, err)
		}
		return nil
	})
	if id, err := holder(t.Context(), server, "l"); id != timed || err != nil {
		t.Errorf("after the leave the lock is held by %q, %v", id, err)
	}
	if s, err := server.SessionRenew(t.Context(), timed, nil); s == nil || err != nil {
		t.Errorf("after the leave the session is renewed as %v, %v", s, err)
	}
}
