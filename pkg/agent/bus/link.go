package bus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// A server whose stream ended or could not be had is tried again after
	// retryFirst, twice that, and so on up to retryMost; each time up to a half
	// more, so that those whom it lost together do not come back together.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second

	// sendTimeout is how long a message may take to a server; after it the next
	// one is tried.
	sendTimeout = 2 * time.Second
)

var errSilent = errors.New("no sign of life")

// attempt is what is remembered of a server that failed us.
type attempt struct {
	failures  int
	notBefore time.Time
}

// links are the streams that this agent holds. They belong to one goroutine.
type links struct {
	live   map[string]bool
	failed map[string]attempt
}

// keepLinks holds as many streams as the role wants until ctx ends.
func (b *Bus) keepLinks(ctx context.Context) {
	l := links{live: map[string]bool{}, failed: map[string]attempt{}}
	type end struct {
		addr  string
		stood bool
	}
	ended := make(chan end)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		start, wait := l.plan(b.cfg.Servers(), b.cfg.Server, time.Now())
		for _, addr := range start {
			running.Go(func() {
				stood := b.follow(ctx, addr)
				select {
				case ended <- end{addr, stood}:
				case <-ctx.Done():
				}
			})
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-b.changed:
		case e := <-ended:
			l.end(e.addr, e.stood, time.Now())
		case <-timer.C:
		}
		timer.Stop()
	}
}

// plan says which streams to begin now, and after what time to ask again.
func (l *links) plan(servers []string, all bool, now time.Time) (start []string, wait time.Duration) {
	for addr := range l.failed {
		if !slices.Contains(servers, addr) {
			delete(l.failed, addr) // who comes back is tried at once
		}
	}
	wait = time.Hour // until the members change
	servers = slices.Clone(servers)
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	for _, addr := range servers {
		if l.live[addr] {
			continue
		}
		if !all && len(l.live) > 0 {
			break
		}
		if left := l.failed[addr].notBefore.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		l.live[addr] = true
		start = append(start, addr)
	}
	return start, wait
}

// end notes that a stream ended, which had stood or was never had.
func (l *links) end(addr string, stood bool, now time.Time) {
	delete(l.live, addr)
	a := l.failed[addr]
	if stood {
		a.failures = 0
	}
	pause := min(retryFirst<<min(a.failures, 10), retryMost)
	a.failures++
	a.notBefore = now.Add(pause + rand.N(pause/2))
	l.failed[addr] = a
}

// follow holds the stream to one server until it ends, and says whether it stood.
func (b *Bus) follow(ctx context.Context, addr string) (stood bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	resp, err := b.ask(ctx, http.MethodGet, addr, nil)
	if err != nil {
		b.cfg.Logger.Debug("no event stream", "server", addr, "error", err)
		return false
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 2*MaxMessage)
	for lines.Scan() {
		quiet.Reset(silence)
		if !stood {
			stood = true
			b.linked.Store(&addr)
			b.cfg.Logger.Debug("event stream stands", "server", addr)
		}
		if len(lines.Bytes()) == 0 {
			continue
		}
		m, err := parse(lines.Bytes())
		if err != nil {
			b.cfg.Logger.Warn("event stream sent what is no message", "server", addr, "error", err)
			return false
		}
		b.take(m)
	}
	b.cfg.Logger.Debug("event stream ended", "server", addr, "error", errors.Join(lines.Err(), context.Cause(ctx)))
	return stood
}

// ask sends one request of the bus to a server.
func (b *Bus) ask(ctx context.Context, method, addr string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+addr+Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := b.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	return resp, nil
}

// sendOutbox sends what is published at this client to a server, which passes it
// on. What no server takes is left to gossip.
func (b *Bus) sendOutbox(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.outbox.ready:
		}
		body := b.outbox.take()
		for _, addr := range b.nearest() {
			if err := b.send(ctx, addr, body); err == nil || ctx.Err() != nil {
				break
			} else {
				b.cfg.Logger.Debug("server did not take messages", "server", addr, "error", err)
			}
		}
	}
}

func (b *Bus) send(ctx context.Context, addr string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	resp, err := b.ask(ctx, http.MethodPut, addr, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// nearest are the living servers, the one whose stream we hold first.
func (b *Bus) nearest() []string {
	servers := slices.Clone(b.cfg.Servers())
	if addr := b.linked.Load(); addr != nil {
		if i := slices.Index(servers, *addr); i > 0 {
			servers[0], servers[i] = servers[i], servers[0]
		}
	}
	return servers
}
