package lookup

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

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/watch"
)

const (
	// A set of names that grows is subscribed anew, so that the pause before that
	// grows with it: what it costs is bounded, whatever is asked.
	followPause   = 20 * time.Millisecond
	followPerName = time.Millisecond
	// expireEvery is how often names are looked for that nobody asks for.
	expireEvery = 30 * time.Second
	// anyServer is the max_stale from which on any server may be followed. Below, the
	// leader is, so that age is known: a server that is cut off does not say so.
	anyServer = 24 * time.Hour
)

// Rules are the settings of dns_config that a lookup goes by.
type Rules struct {
	AllowStale bool          // any server may answer
	MaxStale   time.Duration // how old an answer may be
}

// Config of a Cache.
type Config struct {
	Datacenter string // of this agent
	Rules      Rules
	API        http.RoundTripper // to this agent's own API, with what is inside
	UserAgent  string
	Logger     *slog.Logger
}

// Cache is how DNS reaches the catalog on a client agent. The first question for a
// service or node is sent on to a server; then one subscription, for all such
// names, keeps its answer in memory. All later questions are answered from there,
// also while no server is there, as long as Rules.MaxStale allows.
type Cache struct {
	remote
	answers *answers
	watch   *watch.Watcher
	changed chan struct{} // capacity 1: there is more to follow

	started   time.Time
	lastHeard atomic.Int64 // when the subscription last brought something: since started
}

// NewCache makes a cache, which keeps nothing before Run.
func NewCache(cfg Config) (*Cache, error) {
	own, err := client.New(client.Config{Transport: cfg.API, UserAgent: cfg.UserAgent})
	if err != nil {
		return nil, err
	}
	n := &Cache{
		remote:  remote{dc: cfg.Datacenter, c: own, rules: new(atomic.Pointer[Rules])},
		answers: newAnswers(), changed: make(chan struct{}, 1), started: time.Now(),
	}
	n.SetRules(cfg.Rules)
	n.watch = watch.New(watch.Config{
		Client: subscriber{n}, Logger: cfg.Logger.With("for", "dns"),
		Retry: watch.Retry{MaxBackoff: 2 * time.Second}, FirstWait: time.Millisecond,
	})
	return n, nil
}

// SetRules changes what the answers go by, from the next question on.
func (n *Cache) SetRules(r Rules) { n.rules.Store(&r) }

// Run follows the names that are asked for until ctx ends.
func (n *Cache) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	frames := make(chan watch.Frame)
	group.Go(func() error { return n.watch.Run(ctx) })
	group.Go(func() error { n.watch.Pump(ctx, frames); return nil })
	group.Go(func() error { n.follow(ctx, frames); return nil })
	return group.Wait()
}

// follow has the subscription keep up with the names that are asked for.
func (n *Cache) follow(ctx context.Context, frames <-chan watch.Frame) {
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
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
				if n.answers.update(q, r.Value, instances(r.Value)) {
					soon()
				}
			}
		case <-n.changed:
			soon()
		case <-expire.C:
			soon()
		case <-due:
			due = nil
			if all, changed := n.answers.follow(time.Now()); changed {
				following = len(all)
				n.watch.Follow(all)
			}
		case <-ctx.Done():
			return
		}
	}
}

// instances is how many instances and services an answer holds, 0 if what was asked for does not exist.
func instances(value any) int {
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

func (n *Cache) ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	params := url.Values{}
	for _, tag := range tags {
		params.Add("tag", strings.ToLower(tag))
	}
	q := watch.Request{Path: "/v1/health/service/" + strings.ToLower(name), Params: params.Encode()}
	return cached(n, dc, name, q, func() ([]*api.CheckServiceNode, error) {
		return n.remote.ServiceInstances(ctx, dc, name, tags)
	})
}

func (n *Cache) Node(ctx context.Context, dc, name string) (*api.Node, error) {
	q := watch.Request{Path: "/v1/catalog/node/" + strings.ToLower(name)}
	services, err := cached(n, dc, name, q, func() (*api.NodeServices, error) {
		return n.services(ctx, dc, name)
	})
	if err != nil || services == nil {
		return nil, err
	}
	return services.Node, nil
}

// cached answers from memory, or asks.
func cached[T any](n *Cache, dc, name string, q watch.Request, ask func() (T, error)) (T, error) {
	cacheable := n.rules.Load().AllowStale && strings.EqualFold(dc, n.dc) && isPlain(name)
	if cacheable && n.age() <= n.rules.Load().MaxStale {
		if value, ok := n.answers.get(q, time.Now()); ok {
			return value.(T), nil
		}
	}
	value, err := ask()
	if err == nil && cacheable && n.answers.miss(q, instances(value), time.Now()) {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	return value, err
}

// age is how old what is in memory may be.
func (n *Cache) age() time.Duration {
	return time.Since(n.started) - time.Duration(n.lastHeard.Load())
}

// isPlain tells names that stand in a path as they are.
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

// subscriber is how the subscription reaches the servers.
type subscriber struct{ n *Cache }

func (f subscriber) Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error) {
	return f.n.c.Get(ctx, path, o, out)
}

// Stream asks any server, or the leader. A refusal is tried again, whatever it is:
// long-polls, a goroutine each, are no way to follow names.
func (f subscriber) Stream(ctx context.Context, method, path string, _ *client.Options, in any) (*http.Response, error) {
	stale := f.n.rules.Load().MaxStale >= anyServer
	resp, err := f.n.c.Stream(ctx, method, path, &client.Options{Stale: stale}, in)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, api.AnswerError(resp.StatusCode, text)
	}
	resp.Body = monitored{resp.Body, f.n}
	return resp, nil
}

// monitored notes when the server last sent something.
type monitored struct {
	io.ReadCloser
	n *Cache
}

func (h monitored) Read(p []byte) (int, error) {
	read, err := h.ReadCloser.Read(p)
	if read > 0 {
		h.n.lastHeard.Store(int64(time.Since(h.n.started)))
	}
	return read, err
}
