package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// alone makes the events of an agent that hears itself only.
func alone(change ...func(*Config)) *Ring {
	var e *Ring
	cfg := Config{
		NodeName: "web-1",
		Services: func() map[string]*api.AgentService {
			return map[string]*api.AgentService{"web": {ID: "web", Tags: []string{"v1", "blue"}}, "db": {ID: "db", Tags: []string{"main"}}}
		},
		Publish: func(name string, payload []byte) error {
			e.Receive(bus.Message{Name: name, Payload: payload, LTime: 5})
			return nil
		},
		Logger: logx.Discard(),
	}
	for _, f := range change {
		f(&cfg)
	}
	e = New(cfg)
	return e
}

func (r *Ring) mustFire(t *testing.T, name string) *api.Event {
	t.Helper()
	ev, err := r.Fire(api.Event{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func (r *Ring) now(t *testing.T, name string) *List {
	t.Helper()
	l, err := r.List(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFireAndList(t *testing.T) {
	e := alone()
	if l := e.now(t, ""); l.Index != 1 || string(l.JSON()) != "[]" {
		t.Errorf("nothing yet: index %d, %s", l.Index, l.JSON())
	}
	fired, err := e.Fire(api.Event{Name: "a/b", Payload: []byte("x"), NodeFilter: "web"})
	if err != nil || fired.Version != 1 || fired.LTime != 0 {
		t.Fatalf("%+v, %v", fired, err)
	}
	e.mustFire(t, "c")
	l := e.now(t, "a/b")
	if len(l.Events) != 1 || l.Events[0].ID != fired.ID || l.Events[0].LTime != 5 || string(l.Events[0].Payload) != "x" {
		t.Errorf("%s", l.JSON())
	}
	var back []*api.Event
	if all := e.now(t, ""); json.Unmarshal(all.JSON(), &back) != nil || len(back) != 2 || back[0].Name != "a/b" || back[1].Name != "c" {
		t.Errorf("%s", all.JSON())
	}
}

func TestIndexIsTheHalvesOfTheNewestID(t *testing.T) {
	if got := indexOf("20c90acd-3f28-4c02-84f1-7304d8629386"); got != 11833341928991809412 { // from a running agent
		t.Errorf("got %d", got)
	}
	if got := indexOf("00000000-0000-0001-0000-000000000001"); got != 1 {
		t.Errorf("an index is never 0, this is %d", got)
	}
}

func TestFilters(t *testing.T) {
	for _, row := range []struct {
		node, service, tag string
		kept               bool
	}{
		{"", "", "", true},
		{"web", "", "", true}, {"^web-1$", "", "", true}, {"db", "", "", false},
		{"", "web", "", true}, {"", "e", "", true}, {"", "cache", "", false},
		{"", "web", "v1", true}, {"", "web", "lu", true}, {"", "web", "main", false}, {"", "w|d", "main", true},
		{"web", "db", "main", true}, {"other", "db", "main", false},
	} {
		e := alone()
		if _, err := e.Fire(api.Event{Name: "x", NodeFilter: row.node, ServiceFilter: row.service, TagFilter: row.tag}); err != nil {
			t.Fatal(err)
		}
		if kept := len(e.now(t, "").Events) == 1; kept != row.kept {
			t.Errorf("%+v: kept %v", row, kept)
		}
	}
	for _, bad := range []struct {
		ev   api.Event
		want string
	}{
		{api.Event{TagFilter: "x"}, "Cannot provide tag filter without service filter"},
		{api.Event{NodeFilter: "("}, "Invalid node filter: error parsing regexp: missing closing ): `(`"},
		{api.Event{ServiceFilter: "["}, "Invalid service filter: error parsing regexp: missing closing ]: `[`"},
		{api.Event{ServiceFilter: "x", TagFilter: "*"}, "Invalid tag filter: error parsing regexp: missing argument to repetition operator: `*`"},
	} {
		if _, err := alone().Fire(bad.ev); err == nil || err.Error() != bad.want {
			t.Errorf("%+v: %v", bad.ev, err)
		}
	}
}

// The bytes on the wire are the reference's: this is what its agent sends.
func TestWire(t *testing.T) {
	var got map[string]any
	payload, err := encode(api.Event{ID: uuid.NewString(), Name: "deploy", Payload: []byte("x"), ServiceFilter: "web", TagFilter: "v", Version: 1})
	if err == nil {
		err = codec.NewDecoderBytes(payload, &codec.MsgpackHandle{}).Decode(&got)
	}
	if err != nil || len(got) != 6 || fmt.Sprintf("%s %s %s %s %d", got["n"], got["p"], got["sf"], got["tf"], got["v"]) != "deploy x web v 1" {
		t.Errorf("%v %v", got, err)
	}
	e := alone()
	for _, bad := range []string{"", "x", "\xc0", string(payload[:20]), "\x81\xa1n\xa1x"} {
		e.Receive(bus.Message{Name: "consul:event:x", Payload: []byte(bad)})
	}
	newer, _ := encode(api.Event{ID: uuid.NewString(), Name: "x", Version: 2})
	broken, _ := encode(api.Event{ID: uuid.NewString(), Name: "x", NodeFilter: "(", Version: 1})
	e.Receive(bus.Message{Name: "consul:event:x", Payload: newer})
	e.Receive(bus.Message{Name: "consul:event:x", Payload: broken})
	if l := e.now(t, ""); len(l.Events) != 0 {
		t.Errorf("kept %s", l.JSON())
	}
}

func TestErrorOfTheCarrier(t *testing.T) {
	e := alone(func(c *Config) { c.Publish = func(string, []byte) error { return errors.New("too large") } })
	if _, err := e.Fire(api.Event{Name: "x"}); err == nil || err.Error() != "error broadcasting event: too large" {
		t.Error(err)
	}
}

func TestRemoteExecIsConsumed(t *testing.T) {
	var got []api.Event
	e := alone(func(c *Config) { c.RemoteExec = func(ev api.Event) { got = append(got, ev) } })
	if _, err := e.Fire(api.Event{Name: "_rexec", Payload: []byte("{}"), ServiceFilter: "web"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Fire(api.Event{Name: "_rexec", ServiceFilter: "cache"}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || string(got[0].Payload) != "{}" || len(e.now(t, "").Events) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRingKeepsTheNewest(t *testing.T) {
	e := alone()
	var ids []string
	for range 2*Max + 10 {
		ids = append(ids, e.mustFire(t, "x").ID)
		ids = ids[max(0, len(ids)-Max):]
		l := e.now(t, "")
		if len(l.Events) != len(ids) || l.Events[0].ID != ids[0] || l.Index != indexOf(ids[len(ids)-1]) {
			t.Fatalf("%d kept, want %d", len(l.Events), len(ids))
		}
	}
}

func TestBlockingList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := alone()
		first := e.mustFire(t, "x")
		answers := make(chan string, 10)
		var asked sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		ask := func(name string, index uint64) {
			asked.Go(func() {
				l, err := e.List(ctx, name, index)
				answers <- fmt.Sprintf("%q %d %v", name, len(l.Events), err)
			})
			synctest.Wait()
		}
		ask("x", 77) // any other index than the newest's
		if got := <-answers; got != `"x" 1 <nil>` {
			t.Error(got)
		}
		ask("x", indexOf(first.ID))
		ask("", indexOf(first.ID))
		ask("y", 1)
		e.mustFire(t, "z")
		synctest.Wait()
		if got := <-answers; got != `"" 2 <nil>` {
			t.Error(got)
		}
		e.mustFire(t, "y")
		if got := <-answers; got != `"y" 1 <nil>` {
			t.Error(got)
		}
		cancel()
		if got := <-answers; got != `"x" 1 context canceled` {
			t.Error(got)
		}
		asked.Wait()
		if len(answers) > 0 || len(e.queries) > 0 {
			t.Errorf("%d answers left, %d names waited for", len(answers), len(e.queries))
		}
	})
}

// Those who wait for one name share an answer, and leave nothing behind.
func TestPollersCostNoMemory(t *testing.T) {
	e := alone()
	for range Max {
		e.mustFire(t, "x")
	}
	const pollers, rounds = 1000, 20
	// round lets everybody wait, fires, and takes the answers.
	round := func() {
		index := e.now(t, "x").Index
		lists := make(chan *List, pollers)
		for i := range pollers {
			go func() {
				name := "x"
				if i%2 > 0 {
					name = fmt.Sprint("never", i) // and hang up
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				at := index
				if name != "x" {
					at = 1
					cancel()
				}
				l, _ := e.List(ctx, name, at)
				lists <- l
			}()
		}
		for {
			e.mu.Lock()
			q := e.queries["x"]
			n := 0
			if q != nil {
				n = q.users
			}
			e.mu.Unlock()
			if n == pollers/2 {
				break
			}
			runtime.Gosched()
		}
		e.mustFire(t, "x")
		seen := map[*List]bool{}
		for range pollers {
			if l := <-lists; len(l.Events) > 0 {
				_ = l.JSON()
				seen[l] = true
			}
		}
		if len(seen) != 1 {
			t.Errorf("%d encodings for one answer", len(seen))
		}
	}
	round()
	before, goroutines := heap(), runtime.NumGoroutine()
	for range rounds {
		round()
	}
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("the heap grew by %d KiB over %d polls", grown>>10, rounds*pollers)
	}
	if n := runtime.NumGoroutine(); n > goroutines+50 || len(e.queries) > 0 {
		t.Errorf("%d goroutines, before %d; %d names waited for", n, goroutines, len(e.queries))
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func FuzzReceive(f *testing.F) {
	good, _ := encode(api.Event{ID: uuid.NewString(), Name: "x", Payload: []byte("p"), NodeFilter: "w", Version: 1})
	f.Add(good)
	f.Add([]byte("\xde\xff\xff"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e := alone()
		e.Receive(bus.Message{Name: "consul:event:x", Payload: payload})
		for _, ev := range e.now(t, "").Events {
			if !regexp.MustCompile("^[0-9a-f-]{36}$").MatchString(ev.ID) || ev.Name == "" {
				t.Errorf("kept %+v", ev)
			}
		}
	})
}
