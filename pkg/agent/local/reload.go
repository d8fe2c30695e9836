package local

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
)

// definitions are what configuration files say, found good.
type definitions struct {
	services map[string]*prepared
	checks   map[string]*preparedCheck // those outside services
	inside   map[string]bool           // ids of checks inside services
}

// Reload makes these the definitions that come from configuration files. What
// is the same as before is not touched, what is gone is deregistered, and what
// was registered over HTTP stays, except where a file defines the same id. If
// any definition is bad, nothing changes.
func (s *State) Reload(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition, meta map[string]string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	defs, err := s.prepareAll(services, checks)
	if err != nil {
		return err
	}
	if err := s.removeMissing(defs); err != nil {
		return err
	}
	for id, p := range defs.services {
		if err := s.unsave(id, p.checkIDs()); err != nil {
			return err
		}
	}
	for id := range defs.checks {
		if err := s.unsave("", []string{id}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(defs.services)) {
		s.putService(defs.services[id])
	}
	for _, id := range slices.Sorted(maps.Keys(defs.checks)) {
		s.putCheck(defs.checks[id])
	}
	if !maps.Equal(s.node.Meta, meta) {
		s.node.Meta = maps.Clone(meta)
		s.node.touch()
	}
	s.kick()
	return nil
}

func (s *State) prepareAll(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition) (*definitions, error) {
	d := &definitions{services: map[string]*prepared{}, checks: map[string]*preparedCheck{}, inside: map[string]bool{}}
	for _, reg := range services {
		p, err := s.prepareService(reg, true)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", firstOf(reg.ID, reg.Name), err)
		}
		d.services[p.svc.def.ID] = p
		for _, id := range p.checkIDs() {
			d.inside[id] = true
		}
	}
	for _, def := range checks {
		p, err := s.prepareCheck(def, true)
		if err != nil {
			return nil, fmt.Errorf("check %q: %w", firstOf(def.ID, def.Name), err)
		}
		if id := p.def.ServiceID; id != "" && d.services[id] == nil && !s.staysWithoutConfig(id) {
			return nil, fmt.Errorf("check %q: %w", p.def.ID, api.Errorf(http.StatusNotFound, "ServiceID %q does not exist", id))
		}
		d.checks[p.def.ID] = p
	}
	return d, nil
}

// staysWithoutConfig says whether a service is there whatever the files say.
func (s *State) staysWithoutConfig(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.services[id]
	return svc != nil && !svc.fromConfig
}

// removeMissing removes what came from configuration files and is no longer in
// them.
func (s *State) removeMissing(d *definitions) error {
	s.mu.Lock()
	var services, checks []string
	for id, svc := range s.services {
		if svc.fromConfig && d.services[id] == nil {
			services = append(services, id)
		}
	}
	for id, e := range s.checks {
		if e.fromConfig && d.checks[id] == nil && !d.inside[id] && !slices.Contains(services, e.health.ServiceID) {
			checks = append(checks, id)
		}
	}
	s.mu.Unlock()
	for _, id := range services {
		if err := s.removeService(id); err != nil {
			return err
		}
	}
	for _, id := range checks {
		if err := s.removeCheck(id); err != nil {
			return err
		}
	}
	return nil
}
