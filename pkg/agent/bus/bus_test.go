package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/logx"
)

// testNet is a few agents with a network and a gossip of their own.
type testNet struct {
	mu      sync.Mutex
	agents  map[string]*testAgent // by address
	silent  bool                  // no gossip but to oneself
	hanging map[string]bool       // servers that say nothing any more
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

type testAgent struct {
	*Bus
	net  *testNet
	addr string
	life context.Context // of it and what it serves
	down context.CancelFunc

	mu  sync.Mutex
	got []string
}

func newTestNet() *testNet {
	h := &testNet{agents: map[string]*testAgent{}, hanging: map[string]bool{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// add runs an agent. Servers are those whose address begins with s.
func (h *testNet) add(addr string) *testAgent {
	r := &testAgent{net: h, addr: addr}
	r.Bus = New(Config{
		Server: strings.HasPrefix(addr, "s"), Gossip: r, Transport: r, Servers: r.servers,
		Receivers: []Receiver{{"test:", r.receive}}, Logger: logx.Discard(),
	})
	r.life, r.down = context.WithCancel(h.ctx)
	h.mu.Lock()
	h.agents[addr] = r
	all := slices.Collect(maps.Values(h.agents))
	h.mu.Unlock()
	h.running.Go(func() { _ = r.Run(r.life) })
	context.AfterFunc(r.life, func() { h.remove(addr) })
	for _, other := range all {
		other.MembersChanged()
	}
	return r
}

func (h *testNet) remove(addr string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.agents, addr)
}

func (h *testNet) end() {
	h.stop()
	h.running.Wait()
}

func (h *testNet) others(addr string) []*testAgent {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*testAgent
	for _, r := range h.agents {
		if r.addr != addr {
			out = append(out, r)
		}
	}
	return out
}

func (r *testAgent) servers() []string {
	var out []string
	for _, o := range r.net.others(r.addr) {
		if o.cfg.Server {
			out = append(out, o.addr)
		}
	}
	return out
}

// UserEvent is gossip: at once to ourselves, a while later to the others.
func (r *testAgent) UserEvent(name string, payload []byte) error {
	if len(payload) > 400 {
		return errors.New("too large")
	}
	m := Message{Name: name, Payload: payload, LTime: 7}
	r.Heard(m, false)
	if r.net.silent {
		return nil
	}
	for _, o := range r.net.others(r.addr) {
		r.net.running.Go(func() {
			time.Sleep(50 * time.Millisecond)
			o.Heard(m, false)
		})
	}
	return nil
}

func (r *testAgent) receive(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprintf("%s %s %d", m.Name, m.Payload, m.LTime))
}

func (r *testAgent) has(want ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.got, want) {
		return fmt.Errorf("%s has %q, want %q", r.addr, r.got, want)
	}
	return nil
}

// RoundTrip is the network.
func (r *testAgent) RoundTrip(req *http.Request) (*http.Response, error) {
	h := r.net
	h.mu.Lock()
	to, hangs := h.agents[req.URL.Host], h.hanging[req.URL.Host]
	h.mu.Unlock()
	if to == nil {
		return nil, errors.New("refused")
	}
	resp := &http.Response{Status: "200 OK", StatusCode: 200, Body: http.NoBody}
	if req.Method == http.MethodPut {
		body, _ := io.ReadAll(req.Body)
		if hangs {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		}
		return resp, to.Accept(body)
	}
	in, out := io.Pipe()
	resp.Body = in
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(to.life, cancel)
	context.AfterFunc(ctx, func() { _ = out.CloseWithError(context.Canceled) })
	h.running.Go(func() {
		defer stop()
		defer cancel()
		if hangs {
			<-ctx.Done()
			return
		}
		_ = to.ServeStream(pipeWriter{out}, req.WithContext(ctx))
		_ = out.Close()
	})
	return resp, nil
}

type pipeWriter struct{ *io.PipeWriter }

func (pipeWriter) Header() http.Header { return http.Header{} }
func (pipeWriter) WriteHeader(int)     {}
func (pipeWriter) Flush()              {}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestStreamsReachEveryAgentWithoutGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		h.silent = true
		var all []*testAgent
		for _, addr := range []string{"s1", "s2", "s3", "c1", "c2", "c3", "c4"} {
			all = append(all, h.add(addr))
		}
		time.Sleep(time.Second) // every stream stands
		began := time.Now()
		var want []string
		for i, r := range all {
			text := fmt.Sprint("from ", r.addr)
			must(t, r.Publish("test:a", []byte(text)))
			want = append(want, "test:a "+text+" 7")
			synctest.Wait()
			for _, o := range all {
				if err := o.has(want...); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("something waited %v for a clock", took)
		}
	})
}

func TestEachCarrierOnceEachMessageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		s, c, alone := h.add("s1"), h.add("c1"), h.add("c2")
		time.Sleep(time.Second)
		must(t, c.Publish("test:a", []byte("x")), c.Publish("other:a", []byte("x")), c.Publish("test:a", []byte("x")))
		time.Sleep(time.Second)
		must(t, s.has("test:a x 7"), c.has("test:a x 7"), alone.has("test:a x 7"))
	})
}

func TestGossipCarriesWithoutServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		a, b := h.add("c1"), h.add("c2")
		time.Sleep(time.Minute)
		must(t, a.Publish("test:a", []byte("x")))
		time.Sleep(time.Second)
		must(t, a.has("test:a x 7"), b.has("test:a x 7"))
	})
}

func TestAnotherServerIsFoundAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		h.silent = true
		s1 := h.add("s1")
		time.Sleep(time.Second)
		c := h.add("c1") // to the only one there is
		time.Sleep(time.Second)
		s2 := h.add("s2")
		time.Sleep(time.Second)
		s1.down()
		synctest.Wait()
		must(t, s2.Publish("test:a", []byte("x")))
		synctest.Wait()
		must(t, c.has("test:a x 7"))

		s2.down() // and from none to the first that comes
		time.Sleep(time.Minute)
		s3 := h.add("s3")
		synctest.Wait()
		must(t, s3.Publish("test:a", []byte("y")))
		synctest.Wait()
		must(t, c.has("test:a x 7", "test:a y 7"))
	})
}

// A server that answers nothing any more, though its machine does, is left after
// a while; meanwhile messages to it go to the next one.
func TestSilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		h.silent = true
		h.hanging["s1"] = true
		h.add("s1")
		c := h.add("c1")
		time.Sleep(time.Second)
		s2 := h.add("s2")
		must(t, c.Publish("test:a", []byte("x")))
		time.Sleep(sendTimeout + time.Millisecond)
		must(t, s2.has("test:a x 7"))
		for n := range 20 { // the next choice may be the hanging one again
			time.Sleep(silence + retryMost)
			must(t, s2.Publish("test:b", fmt.Append(nil, n)))
			synctest.Wait()
			if c.has("test:a x 7") != nil {
				return
			}
		}
		t.Error("the silent server was never left")
	})
}

func TestQuietStreamStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		h.silent = true
		s, c := h.add("s1"), h.add("c1")
		time.Sleep(time.Second)
		h.remove("s1") // no second stream can be had
		time.Sleep(time.Hour)
		must(t, s.Publish("test:a", []byte("x")))
		synctest.Wait()
		must(t, c.has("test:a x 7"))
	})
}

func TestPublishSaysWhatGossipSays(t *testing.T) {
	h := newTestNet()
	r := &testAgent{net: h, addr: "c1"}
	r.Bus = New(Config{Gossip: r, Receivers: []Receiver{{"test:", r.receive}}, Logger: logx.Discard()})
	if err := r.Publish("test:a", make([]byte, 401)); err == nil || err.Error() != "too large" {
		t.Errorf("got %v", err)
	}
	must(t, r.has())
}

func TestSlowStreamLosesTheOldest(t *testing.T) {
	q := newQueue()
	for i := range MaxQueued + 3 {
		q.push(fmt.Appendf(nil, "%d\n", i))
	}
	got := strings.Fields(string(q.take()))
	if len(got) != MaxQueued || got[0] != "3" || got[len(got)-1] != fmt.Sprint(MaxQueued+2) {
		t.Errorf("%d lines from %s", len(got), got[0])
	}
	if len(q.take()) != 0 {
		t.Error("lines are handed out twice")
	}
}

func TestRecentIsBounded(t *testing.T) {
	r := newRecent(3)
	for i := range 10 {
		if k := (key{byte(i)}); !r.add(k) || r.add(k) {
			t.Fatalf("key %d", i)
		}
	}
	if len(r.known) != 3 || len(r.ring) != 3 || r.has(key{6}) || !r.has(key{7}) || !r.has(key{9}) {
		t.Errorf("%d known", len(r.known))
	}
}

func TestAcceptRefusesWhatIsNoMessage(t *testing.T) {
	h := newTestNet()
	r := &testAgent{net: h, addr: "s1"}
	r.Bus = New(Config{Server: true, Gossip: r, Receivers: []Receiver{{"test:", r.receive}}, Logger: logx.Discard()})
	for _, body := range []string{"x", "{}{", "[]", string(Message{Name: "test:" + strings.Repeat("x", MaxMessage)}.line())} {
		if err := r.Accept([]byte(body)); err == nil {
			t.Errorf("%.20q was taken", body)
		}
	}
	good := bytes.Join([][]byte{Message{Name: "test:a"}.line(), Message{Name: "test:b", LTime: 3}.line()}, nil)
	must(t, r.Accept(nil), r.Accept(good), r.has("test:a  0", "test:b  3"))
}

func TestStreamsAreBounded(t *testing.T) {
	b := New(Config{Logger: logx.Discard()})
	for range MaxStreams {
		must(t, b.attach(newQueue()))
	}
	if b.attach(newQueue()) == nil {
		t.Error("one more was taken")
	}
}

func TestPlan(t *testing.T) {
	now := time.Now()
	l := links{live: map[string]bool{}, failed: map[string]attempt{}}
	start, _ := l.plan([]string{"a", "b"}, false, now)
	if len(start) != 1 {
		t.Fatalf("a client begins %v", start)
	}
	if again, _ := l.plan([]string{"a", "b"}, false, now); len(again) != 0 {
		t.Fatalf("and then %v", again)
	}
	first := start[0]
	l.end(first, false, now)
	if start, _ = l.plan([]string{first}, false, now); len(start) != 0 {
		t.Error("a server that failed is tried at once")
	}
	for range 20 {
		l.end(first, false, now)
	}
	if _, wait := l.plan([]string{first}, false, now); wait < retryMost || wait > 2*retryMost {
		t.Errorf("it is tried after %v", wait)
	}
	l.plan(nil, false, now)
	if start, _ = l.plan([]string{first}, false, now); len(start) != 1 {
		t.Error("one that was away and is back is not tried at once")
	}
	l = links{live: map[string]bool{}, failed: map[string]attempt{}}
	if start, _ = l.plan([]string{"a", "b", "c"}, true, now); len(start) != 3 {
		t.Errorf("a server begins %v", start)
	}
}

// What was sent before an agent came is not news to it, whichever way it comes;
// what it sends itself always is.
func TestOldMessagesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestNet()
		defer h.end()
		r := h.add("c1")
		m := Message{Name: "test:a", Payload: []byte("1"), LTime: 7}
		r.Heard(m, true)
		r.Heard(m, false)
		r.mine.add(keyOf("test:b", []byte("2")))
		r.Heard(Message{Name: "test:b", Payload: []byte("2"), LTime: 8}, true)
		if err := r.has("test:b 2 8"); err != nil {
			t.Error(err)
		}
	})
}
