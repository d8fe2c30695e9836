package local

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
)

// definitions are the valid definitions of configuration files.
type definitions struct {
	services map[string]*prepared
	checks   map[string]*preparedCheck // those outside services
	inside   map[string]bool           // ids of checks inside services
}

// Check returns the first fault of the definitions of configuration files. It changes
// nothing.
func (s *State) Check(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition) error {
	_, err := s.prepareAll(services, checks)
	return err
}

// Reload replaces the definitions that came from configuration files. An unchanged
// definition is not touched, and one that is gone is deregistered. Registrations over
// HTTP stay, except where a file defines the same id. After an error nothing has changed.
func (s *State) Reload(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition, meta map[string]string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	defs, err := s.prepareAll(services, checks)
	if err != nil {
		return err
	}
	// Files are removed before memory changes, because a service whose file stays would
	// come back. Definitions of configuration files normally have only the states of
	// TTL checks on disk, so an error halfway loses nothing else.
	gone, goneChecks := s.missing(defs)
	for _, id := range gone {
		if err := s.forget(id, s.checksOf(id)); err != nil {
			return err
		}
	}
	if err := s.forget("", goneChecks); err != nil {
		return err
	}
	s.swap(gone, goneChecks, defs, meta)
	s.unsaveAll(defs)
	return nil
}

// swap replaces the definitions in memory.
func (s *State) swap(gone, goneChecks []string, defs *definitions, meta map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range gone {
		s.dropService(id)
	}
	for _, id := range goneChecks {
		s.dropCheck(id)
	}
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
	s.wakeSync()
}

// unsaveAll removes the files of registrations over HTTP whose ids configuration files
// define now. A file that stays does no harm: Load removes it at the next start.
func (s *State) unsaveAll(defs *definitions) {
	var err error
	for id, p := range defs.services {
		err = errors.Join(err, s.unsave(id, p.checkIDs()))
	}
	err = errors.Join(err, s.unsave("", slices.Collect(maps.Keys(defs.checks))))
	if err != nil {
		s.log.Warn("cannot remove the file of a registration that a configuration file replaces", "error", err)
	}
}

func (s *State) prepareAll(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition) (*definitions, error) {
	d := &definitions{services: map[string]*prepared{}, checks: map[string]*preparedCheck{}, inside: map[string]bool{}}
	for _, reg := range services {
		p, err := s.prepareService(reg, true)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", cmp.Or(reg.ID, reg.Name), err)
		}
		d.services[p.svc.def.ID] = p
		for _, id := range p.checkIDs() {
			d.inside[id] = true
		}
	}
	for _, def := range checks {
		p, err := s.prepareCheck(def, true)
		if err != nil {
			return nil, fmt.Errorf("check %q: %w", cmp.Or(def.ID, def.Name), err)
		}
		if id := p.def.ServiceID; id != "" && d.services[id] == nil && !s.staysWithoutConfig(id) {
			return nil, fmt.Errorf("check %q: %w", p.def.ID, api.Errorf(http.StatusNotFound, "ServiceID %q does not exist", id))
		}
		d.checks[p.def.ID] = p
	}
	return d, nil
}

// staysWithoutConfig says whether a service was registered over HTTP, so that it exists
// without a configuration file. At a start it may be saved on disk and not loaded yet.
func (s *State) staysWithoutConfig(id string) bool {
	s.mu.Lock()
	svc := s.services[id]
	s.mu.Unlock()
	if svc != nil {
		return !svc.fromConfig
	}
	if s.cfg.DataDir == "" {
		return false
	}
	_, err := os.Stat(s.path(servicesDir, id))
	return err == nil
}

// missing returns the services that configuration files no longer define, and the checks
// that they no longer define and that are not removed with a service.
func (s *State) missing(d *definitions) (services, checks []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	return services, checks
}
