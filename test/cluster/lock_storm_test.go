package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// storm is a lock that many take, lose and take, while those who have lost it go on
// writing behind the fence of their tokens.
type storm struct {
	t    *testing.T
	lock string

	mu     sync.Mutex
	tokens map[uint64]string // of every acquisition that was answered -> its session
	passed map[string]uint64 // keys whose write was answered true -> its token
	shut   map[string]uint64 // and those answered false
}

// acquire takes the lock once; 0: it did not get it, or does not know.
func (s *storm) acquire(ctx context.Context, a *agent, session string) uint64 {
	u := "http://" + a.Addr() + "/v1/kv/" + s.lock + "?acquire=" + url.QueryEscape(session)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u, bytes.NewReader([]byte(session)))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "true" {
		return 0
	}
	token, err := strconv.ParseUint(resp.Header.Get(api.HeaderLockToken), 10, 64)
	if err != nil || token == 0 {
		s.t.Errorf("the lock was given without a token: %v", resp.Header)
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, again := s.tokens[token]; again && other != session {
		s.t.Errorf("sessions %s and %s have both got the token %d", other, session, token)
	}
	s.tokens[token] = session
	return token
}

// write writes a key of its own behind the fence.
func (s *storm) write(ctx context.Context, a *agent, key string, token uint64) {
	value := []byte(strconv.FormatUint(token, 10))
	ok, err := a.KVPut(ctx, key, value, client.KVWrite{Fence: fmt.Sprintf("%s:%d", s.lock, token)}, nil)
	if err != nil {
		return // nobody knows
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		s.passed[key] = token
	} else {
		s.shut[key] = token
	}
}

// contend takes the lock again and again, with a new session each time that is
// destroyed under it, and writes before, during and after that.
func (s *storm) contend(ctx context.Context, who int, a *agent, rounds int) {
	for round := range rounds {
		id, err := a.SessionCreate(ctx, api.SessionCreate{LockDelay: noDelay(), NodeChecks: []string{}}, nil)
		if err != nil {
			continue
		}
		token := s.acquire(ctx, a, id)
		for try := 0; token == 0 && try < 20; try++ {
			token = s.acquire(ctx, a, id)
		}
		var parts sync.WaitGroup
		parts.Go(func() { _, _ = a.Put(ctx, "/v1/session/destroy/"+id, nil, nil, nil) })
		if token != 0 {
			for n := range 1 + rand.N(4) {
				parts.Go(func() { s.write(ctx, a, fmt.Sprintf("storm/data/%d/%d/%d", who, round, n), token) })
			}
		}
		parts.Wait()
		if token != 0 { // it has lost the lock, and does not know
			s.write(ctx, a, fmt.Sprintf("storm/data/%d/%d/late", who, round), token)
		}
	}
}

// check looks at every write that is there, at the index at which it was done: it is
// of the holder of that moment, who is the last to have acquired the lock by then.
func (s *storm) check(pairs []*api.KVPair) {
	s.t.Helper()
	at := map[string]uint64{}
	for _, p := range pairs {
		token, err := strconv.ParseUint(string(p.Value), 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		at[p.Key] = token
		if token >= p.ModifyIndex {
			s.t.Errorf("%s was written at %d with the token %d, before that was given", p.Key, p.ModifyIndex, token)
		}
		for newer, session := range s.tokens {
			// One entry may hold a write and, after it, the next acquisition.
			if token < newer && newer < p.ModifyIndex {
				s.t.Errorf("%s was written at %d with the token %d, though %s had acquired the lock at %d", p.Key, p.ModifyIndex, token, session, newer)
			}
		}
	}
	for key, token := range s.passed {
		if at[key] != token {
			s.t.Errorf("%s was let through with the token %d, and holds %d", key, token, at[key])
		}
	}
	for key := range s.shut {
		if _, there := at[key]; there {
			s.t.Errorf("%s was refused, and is there", key)
		}
	}
}

// Many acquire, lose and acquire one lock at once, through every agent and across the
// death of a leader. No token is given twice, and no former holder's write gets
// through once the next holder has the lock.
func TestStormOfAcquisitions(t *testing.T) {
	c := harness.Start(t, 3, 1, prompt)
	awaitOneCluster(c, 3, 3)
	s := &storm{t: t, lock: "storm/.lock", tokens: map[uint64]string{}, passed: map[string]uint64{}, shut: map[string]uint64{}}
	wave := func(name string, agents []*agent, during func()) {
		var contenders sync.WaitGroup
		for who := range 8 {
			contenders.Go(func() { s.contend(t.Context(), who, agents[who%len(agents)], rounds(15, 100)) })
		}
		during()
		contenders.Wait()
		pairs, _, err := agents[0].KVList(t.Context(), "storm/data/", &client.Options{Consistent: true})
		if err != nil {
			t.Fatal(err)
		}
		s.check(pairs)
		t.Logf("%s: %d acquisitions, %d writes let through, %d refused", name, len(s.tokens), len(s.passed), len(s.shut))
		if len(s.tokens) < 5 || len(s.passed) == 0 || len(s.shut) == 0 {
			t.Errorf("%s: no storm: %d acquisitions, %d writes let through, %d refused", name, len(s.tokens), len(s.passed), len(s.shut))
		}
		if ok, err := agents[0].KVDelete(t.Context(), "storm/data/", client.KVWrite{Recurse: true}, nil); !ok || err != nil {
			t.Fatalf("clear: %v, %v", ok, err)
		}
		s.passed, s.shut = map[string]uint64{}, map[string]uint64{}
	}
	wave("with one leader", c.Running(), func() {})
	leader := c.Leader()
	var others []*agent
	for _, a := range c.Running() {
		if a != leader {
			others = append(others, a)
		}
	}
	wave("across the death of a leader", others, leader.Kill)
}
