package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an agent for tests on a bubble's clock, where no real one can be: it
// knows sessions that end at their TTL, lock-delays, and one lock key. The scripts of
// cmd/lock run against real agents.
type fake struct {
	mu       sync.Mutex
	down     bool          // every request fails
	faults   int           // so many requests about onceName are answered with 500
	once     *api.KVPair   // the key of that name
	slow     time.Duration // what an answer takes after it was decided
	index    uint64
	sessions map[string]*fakeSession
	pair     *api.KVPair
	delayed  time.Time     // until when the lock-delay holds
	changed  chan struct{} // closed and replaced at each change of pair
	renewals []time.Time
}

type fakeSession struct {
	ttl, delay time.Duration
	ends       time.Time // zero: never
}

func newFake() *fake {
	return &fake{sessions: map[string]*fakeSession{}, changed: make(chan struct{}), index: 1}
}

func (f *fake) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Transport: f})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fake) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

var errDown = errors.New("connection refused")

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	status, out, err := f.answer(req, body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	slow, index := f.slow, f.index
	f.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	data, err := json.Marshal(out)
	h := http.Header{}
	h.Set(api.HeaderIndex, fmt.Sprint(index))
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(data)), Request: req}, err
}

func (f *fake) answer(req *http.Request, body []byte) (int, any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return 0, nil, errDown
	}
	if f.faults > 0 && (strings.HasSuffix(req.URL.Path, onceName) || strings.Contains(string(body), onceName)) {
		f.faults--
		return 500, "rpc error: No cluster leader", nil
	}
	f.expire()
	id := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	switch path := req.URL.Path; {
	case path == "/v1/session/create":
		var in api.SessionCreate
		if err := json.Unmarshal(body, &in); err != nil {
			return 0, nil, err
		}
		f.index++
		s := &fakeSession{delay: in.LockDelay.D()}
		s.ttl, _ = time.ParseDuration(in.TTL)
		s.renew()
		name := fmt.Sprintf("session-%d", f.index)
		f.sessions[name] = s
		return 200, map[string]string{"ID": name}, nil
	case strings.HasPrefix(path, "/v1/session/renew/"):
		s := f.sessions[id]
		if s == nil {
			return 404, "not found", nil
		}
		s.renew()
		f.renewals = append(f.renewals, time.Now())
		return 200, []api.Session{{ID: id}}, nil
	case strings.HasPrefix(path, "/v1/session/info/"):
		if f.sessions[id] == nil {
			return 200, []api.Session{}, nil
		}
		return 200, []api.Session{{ID: id}}, nil
	case strings.HasPrefix(path, "/v1/session/destroy/"):
		f.destroy(id)
		return 200, true, nil
	case path == "/v1/txn":
		return f.txn(body)
	case strings.HasSuffix(path, "/"+onceName) && f.once == nil:
		return 404, nil, nil
	case strings.HasSuffix(path, "/"+onceName):
		return 200, []*api.KVPair{f.once}, nil
	case strings.HasPrefix(path, "/v1/kv/"):
		return f.read(req)
	}
	return 500, "unknown " + req.URL.Path, nil
}

func (s *fakeSession) renew() {
	if s.ttl > 0 {
		s.ends = time.Now().Add(s.ttl)
	}
}

func (f *fake) expire() {
	for id, s := range f.sessions {
		if !s.ends.IsZero() && !time.Now().Before(s.ends) {
			f.destroy(id)
		}
	}
}

func (f *fake) destroy(id string) {
	s := f.sessions[id]
	delete(f.sessions, id)
	if s != nil && f.pair != nil && f.pair.Session == id {
		pair := *f.pair
		pair.Session = ""
		f.delayed = time.Now().Add(s.delay)
		f.set(&pair)
	}
}

func (f *fake) set(pair *api.KVPair) {
	f.index++
	if pair != nil {
		pair.ModifyIndex = f.index
	}
	f.pair = pair
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) txn(body []byte) (int, any, error) {
	var ops []*api.TxnOp
	if err := json.Unmarshal(body, &ops); err != nil {
		return 0, nil, err
	}
	refuse := func(text string) (int, any, error) {
		return 409, api.TxnResponse{Errors: []*api.TxnError{{What: text}}}, nil
	}
	for _, op := range ops {
		o := op.KV
		if strings.HasSuffix(o.Key, onceName) {
			switch {
			case o.Verb == "check-not-exists" && f.once != nil, o.Verb == "check-index" && (f.once == nil || f.once.ModifyIndex != o.Index):
				return refuse("not as it was")
			case o.Verb == "set":
				f.index++
				f.once = &api.KVPair{Key: o.Key, Value: o.Value, ModifyIndex: f.index}
			}
			continue
		}
		switch o.Verb {
		case "check-not-exists":
			if f.pair != nil {
				return refuse("key exists")
			}
		case "check-index":
			if f.pair == nil || f.pair.ModifyIndex != o.Index {
				return refuse("failed index check")
			}
		case "check-session":
			if f.pair == nil || f.pair.Session != o.Session {
				return refuse("failed session check")
			}
		case "lock":
			switch {
			case f.sessions[o.Session] == nil:
				return refuse("invalid session")
			case time.Now().Before(f.delayed):
				return refuse("failed to lock key due to lock delay")
			case f.pair != nil && f.pair.Session != "":
				return refuse("lock is already held")
			}
			f.set(&api.KVPair{Key: o.Key, Flags: o.Flags, Session: o.Session, Value: o.Value})
			return 200, api.TxnResponse{Results: []*api.TxnResult{{KV: f.pair}}}, nil
		case "delete":
			f.set(nil)
		}
	}
	return 200, api.TxnResponse{}, nil
}

// read is called with mu held, which a read that waits gives up meanwhile.
func (f *fake) read(req *http.Request) (int, any, error) {
	var index uint64
	_, _ = fmt.Sscan(req.URL.Query().Get("index"), &index)
	wait, err := time.ParseDuration(req.URL.Query().Get("wait"))
	if err != nil {
		wait = 5 * time.Minute
	}
	over := time.After(wait)
	for index > 0 && f.index <= index {
		changed := f.changed
		f.mu.Unlock()
		timeout := false
		select {
		case <-changed:
		case <-over:
			timeout = true
		case <-req.Context().Done():
			timeout = true
		}
		f.mu.Lock()
		if f.down {
			return 0, nil, errDown
		}
		f.expire()
		if timeout {
			break
		}
	}
	if f.pair == nil {
		return 404, nil, nil
	}
	return 200, []*api.KVPair{f.pair}, nil
}
