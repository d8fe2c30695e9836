package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
)

// maxFailures is how many calls in a row may fail before a push ends until the next
// attempt. So one bad definition does not stop the others, but an unreachable server
// ends the push.
const maxFailures = 3

// push writes to the catalog what is dirty. What changes meanwhile is dirty again and
// part of the next push.
func (s *State) push(ctx context.Context) error {
	var errs []error
	inRow := 0
	for _, step := range s.plan() {
		err := step(ctx)
		if err == nil {
			inRow = 0
			continue
		}
		errs = append(errs, err)
		if inRow++; inRow == maxFailures || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// plan lists the calls to make: first deregistrations, then the node's own checks and
// each service, with those of its checks that are dirty. Each step reads the state again
// when it runs.
func (s *State) plan() []func(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var steps []func(context.Context) error
	for _, id := range slices.Sorted(maps.Keys(s.goneServices)) {
		steps = append(steps, func(ctx context.Context) error { return s.pushGoneService(ctx, id) })
	}
	for _, id := range slices.Sorted(maps.Keys(s.goneChecks)) {
		if s.goneServices[s.goneChecks[id]] {
			continue // removed with its service
		}
		steps = append(steps, func(ctx context.Context) error { return s.pushGoneCheck(ctx, id) })
	}
	owners := map[string]bool{} // services with something to push; "" is the node
	for id, svc := range s.services {
		if svc.isDirty() {
			owners[id] = true
		}
	}
	for _, e := range s.checks {
		if e.isDirty() {
			owners[e.health.ServiceID] = true
		}
	}
	if s.node.isDirty() && len(owners) == 0 {
		owners[""] = true
	}
	for _, id := range slices.Sorted(maps.Keys(owners)) {
		steps = append(steps, func(ctx context.Context) error { return s.pushOwner(ctx, id) })
	}
	return steps
}

func (s *State) pushGoneService(ctx context.Context, id string) error {
	s.mu.Lock()
	gone := s.goneServices[id]
	s.mu.Unlock()
	if !gone {
		return nil // registered again meanwhile
	}
	if err := s.deregister(ctx, &api.CatalogDeregistration{ServiceID: id}); err != nil {
		return fmt.Errorf("deregister service %q: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.goneServices, id)
	for c, owner := range s.goneChecks {
		if owner == id {
			delete(s.goneChecks, c)
		}
	}
	if svc := s.services[id]; svc != nil {
		s.touchAll(svc) // registered again during the call
	}
	return nil
}

// touchAll marks a service and all its checks as dirty. Called with mu held.
func (s *State) touchAll(svc *service) {
	svc.touch()
	for _, e := range s.checks {
		if e.health.ServiceID == svc.def.ID {
			e.touch()
		}
	}
	s.wakeSync()
}

func (s *State) pushGoneCheck(ctx context.Context, id string) error {
	s.mu.Lock()
	_, gone := s.goneChecks[id]
	s.mu.Unlock()
	if !gone {
		return nil
	}
	if err := s.deregister(ctx, &api.CatalogDeregistration{CheckID: id}); err != nil {
		return fmt.Errorf("deregister check %q: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.goneChecks, id)
	if e := s.checks[id]; e != nil {
		e.touch()
		s.wakeSync()
	}
	return nil
}

func (s *State) deregister(ctx context.Context, d *api.CatalogDeregistration) error {
	d.Node, d.Datacenter = s.cfg.Node.Node, s.cfg.Node.Datacenter
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.cfg.Catalog.CatalogDeregister(ctx, d)
}

// pushOwner registers in one call the dirty parts of a service with its checks, or of
// the node's own checks (id ""). The call includes the node.
func (s *State) pushOwner(ctx context.Context, id string) error {
	reg, done := s.registration(id)
	if reg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.cfg.Catalog.CatalogRegister(ctx, reg); err != nil {
		if id == "" {
			return fmt.Errorf("register node %q: %w", s.cfg.Node.Node, err)
		}
		return fmt.Errorf("register service %q: %w", id, err)
	}
	done()
	return nil
}

// registration returns what to push for an owner, nil if nothing is dirty, and a function
// to call after it was pushed.
func (s *State) registration(id string) (*api.CatalogRegistration, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pushed []*mark
	var revs []uint64
	add := func(m *mark) { pushed, revs = append(pushed, m), append(revs, m.rev) }

	n := &s.node
	reg := &api.CatalogRegistration{
		Datacenter: n.Datacenter, ID: n.ID, Node: n.Node.Node, Address: n.Address,
		TaggedAddresses: maps.Clone(n.TaggedAddresses), NodeMeta: maps.Clone(n.Meta),
		SkipNodeUpdate: !n.isDirty(),
	}
	if n.isDirty() {
		add(&n.mark)
	}
	if svc := s.services[id]; svc != nil && svc.isDirty() {
		reg.Service = cloneService(svc.def)
		add(&svc.mark)
	}
	for _, cid := range slices.Sorted(maps.Keys(s.checks)) {
		e := s.checks[cid]
		if e.health.ServiceID == id && e.isDirty() {
			e.cancelDeferred() // this push includes the output
			reg.Checks = append(reg.Checks, cloneHealth(&e.health))
			add(&e.mark)
		}
	}
	if len(pushed) == 0 {
		return nil, nil
	}
	return reg, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, m := range pushed {
			m.setPushed(revs[i])
		}
	}
}
