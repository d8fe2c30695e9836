package local

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
)

// consulService is the service that the leader registers for each server.
const consulService = "consul"

// compareAll reads what the catalog has of this node, and marks what differs. The
// agent's own state wins: what only the catalog has is to be deregistered, except the
// entries that the leader maintains.
func (s *State) compareAll(ctx context.Context) error {
	services, err := s.nodeServices(ctx, s.cfg.Node.Node)
	if err != nil {
		return fmt.Errorf("read this node's services: %w", err)
	}
	checks, err := s.nodeChecks(ctx, s.cfg.Node.Node)
	if err != nil {
		return fmt.Errorf("read this node's checks: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var node *api.Node
	var byID map[string]*api.NodeService
	if services != nil {
		node, byID = services.Node, services.Services
	}
	s.compareNode(node)
	s.compareServices(byID)
	s.compareChecks(checks)
	return nil
}

func (s *State) nodeServices(ctx context.Context, node string) (*api.NodeServices, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	services, _, err := s.cfg.Catalog.NodeServices(ctx, node, nil)
	return services, err
}

func (s *State) nodeChecks(ctx context.Context, node string) ([]*api.HealthCheck, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	checks, _, err := s.cfg.Catalog.HealthNode(ctx, node, nil)
	return checks, err
}

func (s *State) compareNode(remote *api.Node) {
	n := &s.node
	equal := remote != nil && remote.ID == n.ID && remote.Address == n.Address &&
		maps.Equal(remote.TaggedAddresses, n.TaggedAddresses) && maps.Equal(remote.Meta, n.Meta)
	n.setEqual(equal)
}

func (s *State) compareServices(remote map[string]*api.NodeService) {
	for id := range remote {
		if s.services[id] == nil && id != consulService {
			s.goneServices[id] = true
		}
	}
	for id := range s.goneServices {
		if remote[id] == nil {
			delete(s.goneServices, id)
		}
	}
	for id, svc := range s.services {
		r := remote[id]
		if r == nil {
			svc.setEqual(false)
			continue
		}
		if svc.def.EnableTagOverride && !slices.Equal(r.Tags, svc.def.Tags) {
			c := *svc.def
			c.Tags = append([]string{}, r.Tags...)
			svc.def = &c
			s.renameTags(svc)
			s.notify()
		}
		svc.setEqual(sameService(svc.def, r))
	}
}

// renameTags copies a service's tags, which were edited in the catalog, to its checks.
// The catalog did the same, so the checks need no push. Called with mu held.
func (s *State) renameTags(svc *service) {
	for _, e := range s.checks {
		if e.health.ServiceID == svc.def.ID {
			e.health.ServiceTags = slices.Clone(svc.def.Tags)
		}
	}
}

func (s *State) compareChecks(remote []*api.HealthCheck) {
	byID := make(map[string]*api.HealthCheck, len(remote))
	for _, r := range remote {
		byID[r.CheckID] = r
		if s.checks[r.CheckID] == nil && r.CheckID != api.SerfHealthID {
			s.goneChecks[r.CheckID] = r.ServiceID
		}
	}
	for id := range s.goneChecks {
		if byID[id] == nil {
			delete(s.goneChecks, id)
		}
	}
	for id, e := range s.checks {
		r := byID[id]
		e.setEqual(r != nil && sameCheck(&e.health, r, e.deferred != nil))
	}
}

// setEqual records whether a comparison found the object equal in the catalog.
func (m *mark) setEqual(equal bool) {
	switch {
	case equal:
		m.setPushed(m.rev)
	case !m.isDirty():
		m.touch()
	}
}

func sameService(a, b *api.NodeService) bool {
	return a.Kind == b.Kind && a.ID == b.ID && a.Service == b.Service && slices.Equal(a.Tags, b.Tags) &&
		a.Address == b.Address && maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) &&
		a.Port == b.Port && a.SocketPath == b.SocketPath && a.Weights == b.Weights &&
		a.EnableTagOverride == b.EnableTagOverride
}

// sameCheck compares the fields that the agent decides. The catalog fills in the service's
// name and tags.
func sameCheck(a, b *api.HealthCheck, anyOutput bool) bool {
	return a.Name == b.Name && a.Status == b.Status && a.Notes == b.Notes && (anyOutput || a.Output == b.Output) &&
		a.ServiceID == b.ServiceID && a.Type == b.Type && a.Interval == b.Interval && a.Timeout == b.Timeout
}
