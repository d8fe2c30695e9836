package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/api"
)

func (r *rig) fire(target, body string) api.Event {
	r.t.Helper()
	var ev api.Event
	if err := json.Unmarshal([]byte(r.must("PUT /v1/event/fire/"+target, body)), &ev); err != nil {
		r.t.Fatal(err)
	}
	return ev
}

func TestEventFireAndList(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/event/list", "", 200, "[]"},
		{"PUT /v1/event/fire/", "", 400, "Missing name"},
		{"PUT /v1/event/fire/x?tag=a", "", 500, "Cannot provide tag filter without service filter"},
		{"PUT /v1/event/fire/x?node=(", "", 500, "Invalid node filter: error parsing regexp: missing closing ): `(`"},
		{"PUT /v1/event/fire/x?dc=dc9", "", 500, "No path to datacenter"},
		{"PUT /v1/event/fire/x", strings.Repeat("y", 513), 500, "error broadcasting event: user event exceeds configured limit of 512 bytes before encoding"},
		{"GET /v1/event/fire/x", "", 405, "method GET not allowed"},
		{"GET /v1/event/list?index=x", "", 400, "Invalid index"},
		{"GET /v1/event/list?wait=x", "", 400, "Invalid wait time"},
	})
	ev := r.fire("a/b", "hi")
	r.fire("c?node=elsewhere", "")
	if got := r.must("GET /v1/event/list", ""); got != `[{"ID":"`+ev.ID+`","Name":"a/b","Payload":"aGk=","NodeFilter":"","ServiceFilter":"","TagFilter":"","Version":1,"LTime":3}]` {
		t.Error(got)
	}
	if got := r.must("PUT /v1/event/fire/c", ""); !strings.Contains(got, `"Payload":null`) || !strings.Contains(got, `"LTime":0`) {
		t.Error(got)
	}
	if got := r.must("GET /v1/event/list?name=a/b&node=elsewhere", ""); !strings.Contains(got, ev.ID) || strings.Contains(got, `"c"`) {
		t.Error(got)
	}
	if got := r.must("GET /v1/event/list?pretty&name=c", ""); !strings.HasPrefix(got, "[\n    {\n") {
		t.Error(got)
	}
	w := r.do("GET /v1/event/list?name=none", "")
	if w.Header().Get(api.HeaderIndex) != "1" || w.Header().Get(api.HeaderKnownLeader) != "" {
		t.Errorf("headers %v", w.Header())
	}
}

// An index of another event than the newest is answered at once, that of the
// newest when there is another, or after the wait; and at the agent's end.
func TestEventListBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ev := r.fire("x", "")
		index := r.do("GET /v1/event/list", "").Header().Get(api.HeaderIndex)
		base, stop := context.WithCancelCause(t.Context())
		answers := make(chan *httptest.ResponseRecorder, 1)
		ask := func(query string) {
			go func() { answers <- r.send(base, r.api.Public(), "GET /v1/event/list?"+query, "") }()
			synctest.Wait()
		}
		began := time.Now()
		ask("index=5")
		if w := <-answers; !strings.Contains(w.Body.String(), ev.ID) {
			t.Error(w.Body)
		}
		ask("index=" + index)
		r.fire("y", "")
		if w := <-answers; !strings.Contains(w.Body.String(), `"y"`) || time.Since(began) > 0 {
			t.Error(w.Body)
		}
		ask("name=x&wait=3s&index=" + index)
		r.fire("y", "")
		if w := <-answers; time.Since(began) != 3*time.Second || w.Header().Get(api.HeaderIndex) != index {
			t.Errorf("after %v: %v", time.Since(began), w.Header())
		}
		ask("name=x&index=" + index)
		<-answers
		if d := time.Since(began); d != 10*time.Minute+3*time.Second {
			t.Errorf("the default wait is %v", d)
		}
		ask("name=x&index=" + index)
		stop(ErrStopping)
		if w := <-answers; w.Code != http.StatusOK || !strings.Contains(w.Body.String(), ev.ID) {
			t.Errorf("at the end: %d %s", w.Code, w.Body)
		}
	})
}

// The bus is on the server port alone.
func TestBusMessages(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET " + bus.Path, "", 404, textUnknownPath},
		{"PUT " + bus.Path, "{}", 404, textUnknownPath},
	})
	if w := r.send(t.Context(), r.api.Internal(), "PUT "+bus.Path, "x"); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}

	srv := httptest.NewServer(r.api.Internal())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+bus.Path, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "" {
		t.Fatalf("the stream begins with %q", lines.Text())
	}
	ev := r.fire("deploy", "v1")
	var m bus.Message
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &m) != nil || m.Name != "consul:event:deploy" || m.LTime != 3 {
		t.Fatalf("got %q", lines.Text())
	}
	// Another agent sends one.
	body := strings.ReplaceAll(lines.Text(), `"LTime":3`, `"LTime":4`)
	if w := r.send(t.Context(), r.api.Internal(), "PUT "+bus.Path, body+"\n"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := r.must("GET /v1/event/list", ""); strings.Count(got, ev.ID) != 1 {
		t.Errorf("%s", got)
	}
	cancel()
	for lines.Scan() {
		t.Errorf("got %q", lines.Text())
	}
}
