package local

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
)

// definitions are what configuration files say, found good.
type definitions struct {
	services map[string]*prepared
	checks   map[string]*preparedCheck // those outside services
	inside   map[string]bool           // ids of checks inside services
}

// Check says what is wrong with definitions that are to come from configuration
// files. It changes nothing.
func (s *State) Check(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition) error {
	_, err := s.prepareAll(services, checks)
	return err
}

// Reload makes these the definitions that come from configuration files. What
// is the same as before is not touched, what is gone is deregistered, and what
// was registered over HTTP stays, except where a file defines the same id. After
// an error nothing has changed.
func (s *State) Reload(services []*api.AgentServiceRegistration, checks []*api.CheckDefinition, meta map[string]string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	defs, err := s.prepareAll(services, checks)
	if err != nil {
		return err
	}
	// What cannot be forgotten on disk would come back, so that comes before memory.
	// It has no file of its own, unless one was left behind: an error halfway takes
	// nothing away but what TTL checks were last told.
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

// swap changes memory.
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
	s.kick()
}

// unsaveAll removes the files of what was registered over HTTP under an id that a
// configuration file has now. One that stays is no harm: it yields at the next start,
// too.
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

// staysWithoutConfig says whether a service is there whatever the files say: it was
// registered over HTTP, now or, at a start, in an earlier run.
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

// missing is what came from configuration files and is no longer in them: services,
// and checks that do not go with one of these.
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
