package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStackStopsInOppositeOrder(t *testing.T) {
	s := newStack(logx.Discard())
	var mu sync.Mutex
	var ended []string
	for _, name := range []string{"a", "b", "c"} {
		s.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	s.stop()
	if !slices.Equal(ended, []string{"c", "b", "a"}) {
		t.Errorf("ended in the order %v", ended)
	}
	select {
	case err := <-s.failed:
		t.Errorf("an orderly end is no failure: %v", err)
	default:
	}
}

func TestStackReportsTheFirstFailure(t *testing.T) {
	s := newStack(logx.Discard())
	s.start("done", func(context.Context) error { return nil })
	s.start("broken", func(context.Context) error { return errors.New("no port") })
	if err := <-s.failed; err == nil || err.Error() != "broken: no port" {
		t.Errorf("got %v", err)
	}
	s.stop()
}

func TestLoopback(t *testing.T) {
	c, err := client.New(client.Config{Transport: loopback{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/status/leader":
			io.WriteString(w, `"a:1"`)
		case "/v1/status/peers":
			panic(http.ErrAbortHandler)
		default:
			<-r.Context().Done()
		}
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := c.StatusLeader(t.Context()); err != nil || leader != "a:1" {
		t.Errorf("got %q, %v", leader, err)
	}
	if _, err := c.StatusPeers(t.Context()); err == nil {
		t.Error("an answer that broke midway is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Nodes(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// fakePool answers joins from the address "up".
type fakePool struct {
	sync.Mutex
	up      string
	tried   []string
	joined  int
	members []api.Member
}

func (p *fakePool) AwaitUp(context.Context) error       { return nil }
func (p *fakePool) Rejoin(context.Context) (int, error) { return 0, nil }
func (p *fakePool) Members() []api.Member               { return p.members }

func (p *fakePool) JoinContext(_ context.Context, addrs []string) (int, error) {
	p.Lock()
	defer p.Unlock()
	p.tried = addrs
	p.joined++
	if slices.Contains(addrs, p.up) {
		return 1, nil
	}
	return 0, fmt.Errorf("nobody at %v", addrs)
}

func TestJoinerTriesUntilSomebodyElseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePool{}
		var rounds atomic.Int32
		j := &joiner{
			pool: p, addrs: []string{"10.0.0.1", "10.0.0.2:9"}, self: map[string]bool{"10.0.0.1:8301": true},
			port: 8301, interval: 2 * time.Second, tried: func() { rounds.Add(1) }, log: logx.Discard(),
		}
		done := make(chan error, 1)
		go func() { done <- j.run(t.Context()) }()
		time.Sleep(10*time.Second + time.Millisecond)
		p.Lock()
		if !slices.Equal(p.tried, []string{"10.0.0.2:9"}) {
			t.Errorf("tried %v: its own address must not be among them", p.tried)
		}
		if rounds.Load() == 0 {
			t.Error("nobody is told that all were tried")
		}
		// 0.1, 0.2 ... 1.6, 2, 2 s between them
		if p.joined < 8 || p.joined > 10 {
			t.Errorf("%d attempts in ten seconds", p.joined)
		}
		p.up = "10.0.0.2:9"
		p.Unlock()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestJoinerGivesUpAtRetryMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePool{}
		j := &joiner{pool: p, addrs: []string{"10.0.0.2"}, port: 8301, interval: time.Second, most: 3, tried: func() {}, log: logx.Discard()}
		if err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "retry_max") || p.joined != 3 {
			t.Errorf("%v after %d attempts", err, p.joined)
		}
	})
}

func TestJoinerIsContentWhenItWasFound(t *testing.T) {
	p := &fakePool{members: []api.Member{{Status: api.MemberAlive}, {Status: api.MemberAlive}}}
	j := &joiner{pool: p, addrs: []string{"10.0.0.2"}, port: 8301, interval: time.Second, tried: func() {}, log: logx.Discard()}
	if err := j.run(t.Context()); err != nil || p.joined != 0 {
		t.Errorf("%v after %d attempts", err, p.joined)
	}
}

// An agent that is stopped while it joins stops at once, and is not told that
// the join has failed.
func TestJoinerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		j := &joiner{pool: blackHole{}, addrs: []string{"10.0.0.2"}, port: 8301, interval: time.Second, most: 1, tried: func() {}, log: logx.Discard()}
		if err := j.run(ctx); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

type blackHole struct{}

func (blackHole) Rejoin(context.Context) (int, error) { return 0, nil }
func (blackHole) Members() []api.Member               { return nil }
func (blackHole) AwaitUp(context.Context) error       { return nil }
func (blackHole) JoinContext(ctx context.Context, _ []string) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// An address means the same with brackets or without, with a port or without.
func TestAddressesToJoin(t *testing.T) {
	for addr, want := range map[string]string{
		"[::1]": "[::1]:8301", "::1": "[::1]:8301", "[::1]:9": "[::1]:9", "10.0.0.1": "10.0.0.1:8301", "10.0.0.1:9": "10.0.0.1:9",
		"host": "host:8301", "host:9": "host:9", "host:": "host:8301", "[fe80::1%eth0]": "[fe80::1%eth0]:8301",
	} {
		if got := withPort(addr, 8301); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// A join that fails is told of at once, and not every time.
func TestJoinerTellsAtOnceThatNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		ctx, cancel := context.WithCancel(t.Context())
		j := &joiner{pool: &fakePool{}, addrs: []string{"10.0.0.2"}, port: 8301, interval: 30 * time.Second, tried: func() {}, log: logx.New(&out, nil, false)}
		done := make(chan error, 1)
		go func() { done <- j.run(ctx) }()
		synctest.Wait()
		if n := strings.Count(out.String(), "nobody at [10.0.0.2:8301]"); n != 1 {
			t.Errorf("after the first attempt it has said it %d times:\n%s", n, out.String())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(out.String(), "nobody at"); n < 3 || n > 5 {
			t.Errorf("in an hour it has said it %d times", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// locked is a text that several goroutines write and read.
type locked struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What outsiders can do is said in one line, if they can.
func TestWarnOfOutsiders(t *testing.T) {
	for name, c := range map[string]struct {
		encrypted, verified, alone bool
		want, not                  string
	}{
		"open":               {false, false, false, "gossip port can join", "\x00"},
		"no CA":              {true, false, false, "server port can read and write", "gossip port"},
		"no key":             {false, true, false, "gossip port can join", "server port"},
		"closed":             {true, true, false, "", "outsiders"},
		"a developer's, own": {false, false, true, "", "outsiders"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			warnOfOutsiders(logx.New(&out, nil, false), c.encrypted, c.verified, c.alone)
			got := out.String()
			if !strings.Contains(got, c.want) || strings.Contains(got, c.not) || strings.Count(got, "\n") > 1 {
				t.Errorf("logged %q", got)
			}
		})
	}
}
