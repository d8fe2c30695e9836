package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func (r *rig) fireDurable(target, body string) api.DurableEvent {
	r.t.Helper()
	var ev api.DurableEvent
	if err := json.Unmarshal([]byte(r.must("PUT /v1/event/fire/"+target, body)), &ev); err != nil {
		r.t.Fatal(err)
	}
	return ev
}

func TestDurableEvents(t *testing.T) {
	r := newRig(t)
	r.seed()
	one := r.fireDurable("deploy/web?durable", "v1")
	two := r.fireDurable("deploy/web?durable=true&ttl=90s", "")
	three := r.fireDurable("other?ttl=2m&durable", "x")
	if one.Expires.Sub(one.Time) != time.Hour || two.Expires.Sub(two.Time) != 90*time.Second || one.Index >= two.Index || string(one.Payload) != "v1" {
		t.Errorf("%+v, then %+v", one, two)
	}
	if got := r.must("GET /v1/event/list", ""); got != "[]" {
		t.Errorf("the ring has %s", got)
	}
	ids := func(query string) string {
		t.Helper()
		var list []api.EventAcks
		if err := json.Unmarshal([]byte(r.must("GET /v1/event/log?"+query, "")), &list); err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, ev := range list {
			out += map[string]string{one.ID: "1", two.ID: "2", three.ID: "3"}[ev.ID]
			for range ev.Acks {
				out += "*"
			}
		}
		return out
	}
	for range 2 {
		if got := r.must("PUT /v1/event/ack/"+two.ID+"?node=A", ""); got != "true" {
			t.Error(got)
		}
	}
	r.must("PUT /v1/event/ack/"+two.ID+"?node=b", "")
	for query, want := range map[string]string{
		"": "123", "name=deploy/web": "12", "name=none": "", "acks": "12**3", "acks&name=other": "3",
		"since=" + decimal(one.Index): "23", "since=" + decimal(three.Index): "", "name=deploy/web&since=" + decimal(one.Index) + "&acks": "2**",
	} {
		if got := ids(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	if got := r.must("GET /v1/event/log?name=other", ""); strings.Contains(got, "Acks") {
		t.Errorf("unasked: %s", got)
	}
	if got := r.must("GET /v1/event/ack/"+two.ID, ""); !strings.Contains(got, `"Acks":2,"AckedBy":["a","b"]`) {
		t.Error(got)
	}

	r.check(t, []want{
		{"PUT /v1/event/fire/?durable", "", 400, "Missing name"},
		{"PUT /v1/event/fire/x?durable&node=a", "", 400, "A durable event has no filters (?node): its readers choose it by name"},
		{"PUT /v1/event/fire/x?durable&ttl=1", "", 400, `Invalid ttl "1": it must be between 1s and 720h0m0s, such as 1h`},
		{"PUT /v1/event/fire/x?durable&ttl=999ms", "", 400, `~Invalid ttl`},
		{"PUT /v1/event/fire/x?durable&ttl=721h", "", 400, `~Invalid ttl`},
		{"PUT /v1/event/fire/x?durable", strings.Repeat("x", api.MaxEventPayload+1), 413, "Request body(65537 bytes) too large, max size: 65536 bytes."},
		{"GET /v1/event/log?since=x", "", 400, "Invalid since"},
		{"PUT /v1/event/ack/", "", 400, "Missing event id"},
		{"GET /v1/event/ack/none", "", 404, ""},
		{"PUT /v1/event/ack/none?node=a", "", 404, `no durable event has the id "none": it has expired, or never was`},
		{"PUT /v1/event/ack/" + one.ID + "?node=z", "", 400, `node "z" is not registered`},
		{"PUT /v1/event/ack/" + one.ID, "", 400, `node "n1" is not registered`}, // our own, which the rig has not registered
		{"DELETE /v1/event/ack/x", "", 405, "method DELETE not allowed"},
	})
}

// What is asked at a client agent goes to a server, with what only it knows.
func TestDurableEventsAreForwarded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Cluster = nil })
	r.must("PUT /v1/event/fire/x?durable&ttl=1h", "body")
	r.must("PUT /v1/event/ack/id", "")
	r.must("PUT /v1/event/ack/id?node=b", "")
	want := []string{
		"server forwards 1 PUT /v1/event/log/x?durable&ttl=1h body",
		"server forwards 1 PUT /v1/event/ack/id?node=n1",
		"server forwards 1 PUT /v1/event/ack/id?node=b",
	}
	if got := strings.Join(r.forward.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("forwarded\n%s", got)
	}
}

// A reader who waits for events is woken by one of that name, not by another or
// by an acknowledgement.
func TestEventLogBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.seed()
		one := r.fireDurable("x?durable", "")
		answers := make(chan *httptest.ResponseRecorder, 1)
		began := time.Now()
		go func() {
			answers <- r.do("GET /v1/event/log?name=x&since="+decimal(one.Index)+"&index="+decimal(one.Index)+"&wait=1m", "")
		}()
		synctest.Wait()
		r.fireDurable("y?durable", "")
		r.must("PUT /v1/event/ack/"+one.ID+"?node=a", "")
		r.must("PUT /v1/kv/k", "v")
		time.Sleep(time.Second)
		two := r.fireDurable("x?durable", "")
		w := <-answers
		if !strings.Contains(w.Body.String(), two.ID) || strings.Contains(w.Body.String(), one.ID) || time.Since(began) != time.Second {
			t.Errorf("after %v: %s", time.Since(began), w.Body)
		}
		if w.Header().Get(api.HeaderIndex) != decimal(two.Index) {
			t.Errorf("headers %v", w.Header())
		}
	})
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// The log can be followed beside other reads.
func TestEventLogIsFollowed(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(t, api.Subscription{Queries: queries("/v1/event/log?name=x")})
	if f := s.next(); len(f.Results) != 1 || string(f.Results[0].Body) != "[]" {
		t.Fatalf("%+v", f)
	}
	r.fireDurable("y?durable", "")
	ev := r.fireDurable("x?durable", "")
	if f := s.next(); f.Index != ev.Index || len(f.Results) != 1 || f.Results[0].Index != ev.Index || !strings.Contains(string(f.Results[0].Body), ev.ID) {
		t.Errorf("%+v", f)
	}
}
