// Package lookup is how DNS reaches the catalog: a server reads its own state, a
// client agent asks a server and keeps what is asked for often (Cache).
//
// What it promises: names have no case; no answer is older than the rules of
// dns_config allow; what a client agent keeps is bounded, whatever is asked.
package lookup

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/muster-dev/muster/pkg/agent/dns"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Server answers from this server's own state, once that may be asked (a stale
// read: DNS stays up while there is no leader).
type Server struct {
	Datacenter string
	Views      *view.Views
	Await      func(ctx context.Context) error // until the state may be asked
}

func (l Server) snapshot(ctx context.Context, dc string) (*state.Snapshot, error) {
	if !strings.EqualFold(dc, l.Datacenter) {
		return nil, dns.ErrUnknownDatacenter
	}
	if err := l.Await(ctx); err != nil {
		return nil, err
	}
	return l.Views.Snapshot(), nil
}

func (l Server) ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	if _, err := l.snapshot(ctx, dc); err != nil {
		return nil, err
	}
	key, query := httpapi.Instances(name, tags)
	ans, err := l.Views.Read(ctx, key, query, 0, 0)
	if err != nil {
		return nil, err
	}
	return ans.Value.([]*api.CheckServiceNode), nil
}

func (l Server) Node(ctx context.Context, dc, name string) (*api.Node, error) {
	s, err := l.snapshot(ctx, dc)
	if err != nil {
		return nil, err
	}
	out, _ := s.Node(name)
	return out, nil
}

func (l Server) NodeByAddress(ctx context.Context, dc, ip string) (*api.Node, error) {
	s, err := l.snapshot(ctx, dc)
	if err != nil {
		return nil, err
	}
	out, _ := s.NodeByAddress(ip)
	return out, nil
}

func (l Server) ServiceByAddress(ctx context.Context, dc, ip string) (*api.ServiceNode, error) {
	s, err := l.snapshot(ctx, dc)
	if err != nil {
		return nil, err
	}
	out, _ := s.ServiceByAddress(ip)
	return out, nil
}

func (l Server) Elected(ctx context.Context, dc, name string) (*api.Node, error) {
	s, err := l.snapshot(ctx, dc)
	if err != nil {
		return nil, err
	}
	out, _ := s.Elected(name)
	return out, nil
}

// remote asks a server, any that answers or the leader, as the rules say.
type remote struct {
	dc    string
	c     *client.Client
	rules *atomic.Pointer[Rules]
}

func (l remote) options(dc string) (*client.Options, error) {
	if !strings.EqualFold(dc, l.dc) {
		return nil, dns.ErrUnknownDatacenter
	}
	rules := l.rules.Load()
	if !rules.AllowStale {
		return &client.Options{}, nil
	}
	return &client.Options{Stale: true, MaxStale: rules.MaxStale}, nil
}

func (l remote) ServiceInstances(ctx context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	o, err := l.options(dc)
	if err != nil {
		return nil, err
	}
	if len(tags) > 0 {
		o.Params = url.Values{"tag": tags}
	}
	out, _, err := l.c.HealthService(ctx, name, false, o)
	return out, err
}

func (l remote) services(ctx context.Context, dc, name string) (*api.NodeServices, error) {
	o, err := l.options(dc)
	if err != nil {
		return nil, err
	}
	services, _, err := l.c.NodeServices(ctx, name, o)
	return services, err
}

func (l remote) NodeByAddress(ctx context.Context, dc, ip string) (*api.Node, error) {
	return inside[api.Node](ctx, l, dc, "by-address/node/"+ip)
}

func (l remote) ServiceByAddress(ctx context.Context, dc, ip string) (*api.ServiceNode, error) {
	return inside[api.ServiceNode](ctx, l, dc, "by-address/service/"+ip)
}

func (l remote) Elected(ctx context.Context, dc, name string) (*api.Node, error) {
	return inside[api.Node](ctx, l, dc, "elected/"+url.PathEscape(name))
}

// inside asks what the public API has no question for.
func inside[T any](ctx context.Context, l remote, dc, path string) (*T, error) {
	o, err := l.options(dc)
	if err != nil {
		return nil, err
	}
	var out *T
	_, err = l.c.Get(ctx, "/v1/internal/"+path, o, &out)
	if client.IsStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	return out, err
}
