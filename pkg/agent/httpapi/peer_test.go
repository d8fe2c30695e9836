package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// askedPeer answers with what it was asked.
type askedPeer struct {
	Peer
	running bool
}

func (p askedPeer) RaftRunning() bool { return p.running }
func (p askedPeer) Hello() any        { return "hello" }

func (p askedPeer) Voter(_ context.Context, params url.Values) (any, error) {
	if id := params.Get("id"); id != "" {
		return id, nil
	}
	return nil, errors.New("which id")
}

// What servers ask each other is answered at the server port alone; before raft runs,
// only who is there.
func TestPeerQuestions(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		running bool
		target  string
		status  int
		body    string
	}{
		{true, "GET " + VoterPath + "?id=a", 200, `"a"`},
		{true, "GET " + VoterPath, 503, "which id"},
		{false, "GET " + VoterPath + "?id=a", 503, "raft is not running"},
		{false, "GET " + HelloPath, 200, `"hello"`},
		{true, "PUT " + VoterPath, 405, ""},
	} {
		r.cluster.set(func(f *fakeCluster) { f.Peer = askedPeer{running: c.running} })
		w := r.send(t.Context(), r.api.Internal(), c.target, "")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s, running %v: %d %q, want %d %q", c.target, c.running, w.Code, w.Body, c.status, c.body)
		}
		for name, h := range map[string]http.Handler{"from outside": r.api.Public(), "its own": r.api.Own()} {
			if w := r.send(t.Context(), h, c.target, ""); w.Code != http.StatusNotFound {
				t.Errorf("%s, %s: %d %q", c.target, name, w.Code, w.Body)
			}
		}
	}
}
