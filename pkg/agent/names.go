package agent

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/watch"
)

const (
	// A set of names that grows is subscribed anew, so that the pause before that
	// grows with it: what it costs is bounded, whatever is asked.
	followPause   = 20 * time.Millisecond
	followPerName = time.Millisecond
	// forgetEvery is how often names are looked for that nobody asks for.
	forgetEvery = 30 * time.Second
	// anyServer is the max_stale from which on any server may be followed. Below, the
	// leader is, so that age is known: a server that is cut off does not say so.
	anyServer = 24 * time.Hour
)

// names is how DNS reaches the catalog on a client agent. The first question for a
// service or node is sent on to a server; then one subscription, for all such
// names, keeps its answer in memory, from where all later questions are answered,
// also while no server is there, as long as dns_config.max_stale allows.
type names struct {
	clientLookup
	shelf  *shelf
	stream *client.Client // to the servers' ports
	watch  *watch.Watcher
	news   chan struct{} // capacity 1: there is more to follow

	began time.Time
	heard atomic.Int64 // when the subscription last said something: since began
}

func newNames(ask clientLookup, router *forward.Router, log *slog.Logger) (*names, error) {
	c, err := client.New(client.Config{Transport: router, UserAgent: userAgent})
	n := &names{clientLookup: ask, shelf: newShelf(), stream: c, news: make(chan struct{}, 1), began: time.Now()}
	n.watch = watch.New(watch.Config{
		Client: followed{n}, Logger: log.With("for", "dns"),
		Retry: watch.Retry{MaxBackoff: 2 * time.Second}, Settle: time.Millisecond,
	})
	return n, err
}

// Run follows the names that are asked for until ctx ends.
func (n *names) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	frames := make(chan watch.Frame)
	group.Go(func() error { return n.watch.Run(ctx) })
	group.Go(func() error { n.watch.Pump(ctx, frames); return nil })
	group.Go(func() error { n.tend(ctx, frames); return nil })
	return group.Wait()
}

func (n *names) tend(ctx context.Context, frames <-chan watch.Frame) {
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	following := 0
	var due <-chan time.Time
	soon := func() {
		if due == nil {
			due = time.After(followPause + time.Duration(following)*followPerName)
		}
	}
	for {
		select {
		case frame := <-frames:
			for q, r := range frame.Results {
				if n.shelf.take(q, r.Value, things(r.Value)) {
					soon()
				}
			}
		case <-n.news:
			soon()
		case <-forget.C:
			soon()
		case <-due:
			due = nil
			if all, changed := n.shelf.follow(time.Now()); changed {
				following = len(all)
				n.watch.Follow(all)
			}
		case <-ctx.Done():
			return
		}
	}
}

// things is how much an answer holds, 0 if what was asked for does not exist.
func things(value any) int {
	switch v := value.(type) {
	case []*api.CheckServiceNode:
		return len(v)
	case *api.NodeServices:
		if v != nil {
			return 1 + len(v.Services)
		}
	}
	return 0
}

func (n *names) ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	params := url.Values{}
	for _, tag := range tags {
		params.Add("tag", strings.ToLower(tag))
	}
	q := watch.Query{Path: "/v1/health/service/" + strings.ToLower(name), Params: params.Encode()}
	return kept(n, dc, name, q, func() ([]*api.CheckServiceNode, error) {
		return n.clientLookup.ServiceInstances(ctx, dc, name, tags)
	})
}

func (n *names) Node(ctx context.Context, dc, name string) (*api.Node, error) {
	q := watch.Query{Path: "/v1/catalog/node/" + strings.ToLower(name)}
	services, err := kept(n, dc, name, q, func() (*api.NodeServices, error) {
		return n.services(ctx, dc, name)
	})
	if err != nil || services == nil {
		return nil, err
	}
	return services.Node, nil
}

// kept answers from memory, or asks.
func kept[T any](n *names, dc, name string, q watch.Query, ask func() (T, error)) (T, error) {
	keeps := n.rules.Load().AllowStale && strings.EqualFold(dc, n.dc) && isPlain(name)
	if keeps && n.age() <= n.rules.Load().MaxStale {
		if value, ok := n.shelf.get(q, time.Now()); ok {
			return value.(T), nil
		}
	}
	value, err := ask()
	if err == nil && keeps && n.shelf.missed(q, things(value), time.Now()) {
		select {
		case n.news <- struct{}{}:
		default:
		}
	}
	return value, err
}

// age is how old what is in memory may be.
func (n *names) age() time.Duration {
	return time.Since(n.began) - time.Duration(n.heard.Load())
}

// isPlain tells names that need no thought in a path.
func isPlain(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
		default:
			return false
		}
	}
	return name != "" && name[0] != '.'
}

// followed is how the subscription reaches the servers.
type followed struct{ n *names }

func (f followed) Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error) {
	return f.n.c.Get(ctx, path, o, out)
}

// Stream asks any server, or the leader. A refusal is tried again, whatever it is:
// long-polls, a goroutine each, are no way to follow names.
func (f followed) Stream(ctx context.Context, method, path string, _ *client.Options, in any) (*http.Response, error) {
	stale := f.n.rules.Load().MaxStale >= anyServer
	resp, err := f.n.stream.Stream(ctx, method, path, &client.Options{Stale: stale}, in)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, &api.StatusError{Code: resp.StatusCode, Text: strings.TrimSpace(string(text))}
	}
	resp.Body = hearing{resp.Body, f.n}
	return resp, nil
}

// hearing notes that the other end lives.
type hearing struct {
	io.ReadCloser
	n *names
}

func (h hearing) Read(p []byte) (int, error) {
	read, err := h.ReadCloser.Read(p)
	if read > 0 {
		h.n.heard.Store(int64(time.Since(h.n.began)))
	}
	return read, err
}
