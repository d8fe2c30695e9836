package retryjoin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

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
		j := New(Config{
			Pool: p, Addrs: []string{"10.0.0.1", "10.0.0.2:9"}, Self: map[string]bool{"10.0.0.1:8301": true},
			Port: 8301, Interval: 2 * time.Second, Tried: func() { rounds.Add(1) }, Logger: logx.Discard()})
		done := make(chan error, 1)
		go func() { done <- j.Run(t.Context()) }()
		time.Sleep(10*time.Second + time.Millisecond)
		p.Lock()
		if !slices.Equal(p.tried, []string{"10.0.0.2:9"}) {
			t.Errorf("tried %v: its own address must not be among them", p.tried)
		}
		if rounds.Load() == 0 {
			t.Error("nobody is told that all were tried")
		}
		// 0.1, 0.2 ... 1.6, 2, 2 s between them, less up to a half by chance
		if p.joined < 8 || p.joined > 20 {
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
		j := New(Config{Pool: p, Addrs: []string{"10.0.0.2"}, Port: 8301, Interval: time.Second, MaxAttempts: 3, Tried: func() {}, Logger: logx.Discard()})
		if err := j.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "retry_max") || p.joined != 3 {
			t.Errorf("%v after %d attempts", err, p.joined)
		}
	})
}

func TestJoinerIsContentWhenItWasFound(t *testing.T) {
	p := &fakePool{members: []api.Member{{Status: api.MemberAlive}, {Status: api.MemberAlive}}}
	j := New(Config{Pool: p, Addrs: []string{"10.0.0.2"}, Port: 8301, Interval: time.Second, Tried: func() {}, Logger: logx.Discard()})
	if err := j.Run(t.Context()); err != nil || p.joined != 0 {
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
		j := New(Config{Pool: blackHole{}, Addrs: []string{"10.0.0.2"}, Port: 8301, Interval: time.Second, MaxAttempts: 1, Tried: func() {}, Logger: logx.Discard()})
		if err := j.Run(ctx); err != nil || time.Since(began) != time.Second {
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
		j := New(Config{Pool: &fakePool{}, Addrs: []string{"10.0.0.2"}, Port: 8301, Interval: 30 * time.Second, Tried: func() {}, Logger: logx.New(&out, nil, false)})
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
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
