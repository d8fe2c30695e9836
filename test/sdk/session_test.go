package sdk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/sdk/testutil"
)

// shortTTLs lets sessions have a TTL of a second.
func shortTTLs(c *testutil.TestServerConfig) {
	c.Args = append(c.Args, "-hcl", `session_ttl_min = "1s"`)
}

// The official client's sessions.
func TestSessions(t *testing.T) {
	s, c := start(t, shortTTLs)
	id, _, err := c.Session().Create(&api.SessionEntry{
		Name: "one", Behavior: api.SessionBehaviorDelete, TTL: "1s", LockDelay: 3 * time.Second, Checks: []string{"serfHealth"},
	}, nil)
	must(t, err)
	got, meta, err := c.Session().Info(id, nil)
	must(t, err)
	if got.Name != "one" || got.Node != s.Config.NodeName || got.Behavior != "delete" || got.TTL != "1s" || got.LockDelay != 3*time.Second ||
		len(got.Checks) != 0 && got.Checks[0] != "serfHealth" || len(got.NodeChecks) != 1 || meta.LastIndex == 0 {
		t.Errorf("info: %+v, %+v", got, meta)
	}
	plain, _, err := c.Session().CreateNoChecks(nil, nil)
	must(t, err)
	if entry, _, err := c.Session().Info(plain, nil); err != nil || len(entry.NodeChecks) != 0 || entry.LockDelay != 15*time.Second {
		t.Errorf("without checks: %+v, %v", entry, err)
	}
	for what, list := range map[string]func() ([]*api.SessionEntry, *api.QueryMeta, error){
		"node": func() ([]*api.SessionEntry, *api.QueryMeta, error) { return c.Session().Node(s.Config.NodeName, nil) },
		"list": func() ([]*api.SessionEntry, *api.QueryMeta, error) { return c.Session().List(nil) },
	} {
		if entries, _, err := list(); err != nil || len(entries) != 2 {
			t.Errorf("%s: %d sessions, %v", what, len(entries), err)
		}
	}
	// A session lives while it is renewed; then it ends at its TTL, and its keys are deleted.
	ok, _, err := c.KV().Acquire(&api.KVPair{Key: "brief", Session: id}, nil)
	if !ok || err != nil {
		t.Fatalf("acquired: %v, %v", ok, err)
	}
	for until := time.Now().Add(2500 * time.Millisecond); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if entry, _, err := c.Session().Renew(id, nil); err != nil || entry == nil {
			t.Fatalf("renewed: %v, %v", entry, err)
		}
	}
	last := time.Now()
	gone, _, err := c.Session().Info(id, waiting(meta.LastIndex))
	if took := time.Since(last); err != nil || gone != nil || took < 800*time.Millisecond {
		t.Errorf("it ended as %+v, %v after %v", gone, err, took)
	}
	if pair, _, err := c.KV().Get("brief", nil); pair != nil || err != nil {
		t.Errorf("its key is %+v, %v", pair, err)
	}
	if entry, _, err := c.Session().Renew(id, nil); entry != nil || err != nil {
		t.Errorf("renewed what has ended: %+v, %v", entry, err)
	}
	if _, err := c.Session().Destroy(plain, nil); err != nil {
		t.Error(err)
	}
}

// A check that turns critical ends the sessions that depend on it.
func TestSessionsOfChecks(t *testing.T) {
	_, c := start(t, nil)
	must(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "web", Check: &api.AgentServiceCheck{CheckID: "web-up", TTL: "1m", Status: api.HealthPassing},
	}))
	var id string
	eventually(t, "a session with the check", func() (err error) {
		id, _, err = c.Session().Create(&api.SessionEntry{ServiceChecks: []api.ServiceCheck{{ID: "web-up"}}}, nil)
		return err
	})
	must(t, c.Agent().FailTTL("web-up", "no"))
	eventually(t, "its end", func() error {
		if entry, _, err := c.Session().Info(id, nil); err != nil || entry != nil {
			return fmt.Errorf("%+v, %v", entry, err)
		}
		return nil
	})
	_, _, err := c.Session().Create(&api.SessionEntry{ServiceChecks: []api.ServiceCheck{{ID: "web-up"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "Check 'web-up' is in critical state") {
		t.Errorf("created with a critical check: %v", err)
	}
}

// The client library's own lock.
func TestLock(t *testing.T) {
	_, c := start(t, shortTTLs)
	lock := func() *api.Lock {
		l, err := c.LockOpts(&api.LockOptions{Key: "lock", SessionTTL: "1s", LockDelay: time.Millisecond, MonitorRetries: 3, MonitorRetryTime: 50 * time.Millisecond})
		must(t, err)
		return l
	}
	first, second := lock(), lock()
	lost, err := first.Lock(t.Context().Done())
	must(t, err)
	acquired := make(chan error, 1)
	go func() {
		_, err := second.Lock(t.Context().Done())
		acquired <- err
	}()
	select {
	case err := <-acquired:
		t.Fatalf("two holders: %v", err)
	case <-lost:
		t.Fatal("lost though renewed")
	case <-time.After(2500 * time.Millisecond): // more than two TTLs
	}
	must(t, first.Unlock())
	must(t, <-acquired)
	if err := first.Destroy(); err != api.ErrLockInUse {
		t.Errorf("destroyed a lock in use: %v", err)
	}
	// The holder learns that its session was destroyed.
	pair, _, err := c.KV().Get("lock", nil)
	must(t, err)
	if pair.Flags != api.LockFlagValue || pair.LockIndex != 2 {
		t.Errorf("the key is %+v", pair)
	}
	must(t, second.Unlock())
	must(t, second.Destroy())
	third := lock()
	lost, err = third.Lock(t.Context().Done())
	must(t, err)
	pair, _, err = c.KV().Get("lock", nil)
	must(t, err)
	_, err = c.Session().Destroy(pair.Session, nil)
	must(t, err)
	select {
	case <-lost:
	case <-time.After(15 * time.Second):
		t.Error("the holder did not hear that its session is gone")
	}
}

func TestSemaphore(t *testing.T) {
	_, c := start(t, shortTTLs)
	slot := func() *api.Semaphore {
		s, err := c.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "slots", Limit: 2, SessionTTL: "1s", SemaphoreWaitTime: 500 * time.Millisecond})
		must(t, err)
		return s
	}
	all := []*api.Semaphore{slot(), slot(), slot()}
	for _, s := range all[:2] {
		_, err := s.Acquire(t.Context().Done())
		must(t, err)
	}
	third := make(chan error, 1)
	go func() {
		_, err := all[2].Acquire(t.Context().Done())
		third <- err
	}()
	select {
	case err := <-third:
		t.Fatalf("three of two slots: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	must(t, all[0].Release())
	must(t, <-third)
	must(t, all[1].Release())
	must(t, all[2].Release())
	must(t, all[2].Destroy())
}

// Transactions that lock.
func TestTxnLocks(t *testing.T) {
	_, c := start(t, nil)
	id, _, err := c.Session().CreateNoChecks(nil, nil)
	must(t, err)
	ok, resp, _, err := c.KV().Txn(api.KVTxnOps{
		{Verb: api.KVLock, Key: "a", Value: []byte("1"), Session: id},
		{Verb: api.KVCheckSession, Key: "a", Session: id},
		{Verb: api.KVUnlock, Key: "a", Value: []byte("2"), Session: id},
		{Verb: api.KVLock, Key: "b", Session: id},
	}, nil)
	if err != nil || !ok || len(resp.Results) != 4 || resp.Results[0].Session != id || resp.Results[2].Session != "" {
		t.Fatalf("%v, %+v, %v", ok, resp, err)
	}
	ok, resp, _, err = c.KV().Txn(api.KVTxnOps{{Verb: api.KVLock, Key: "b", Session: "nobody"}, {Verb: api.KVUnlock, Key: "a", Session: id}}, nil)
	if err != nil || ok || len(resp.Errors) != 2 || resp.Errors[0].What != `invalid session "nobody"` ||
		resp.Errors[1].What != `failed to unlock key "a", lock isn't held, or is held by another session` {
		t.Errorf("%v, %+v, %v", ok, resp, err)
	}
}
