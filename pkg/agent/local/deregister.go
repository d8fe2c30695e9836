package local

import (
	"context"
	"net/http"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	reapInterval = 30 * time.Second // how often services are checked for DeregisterCriticalServiceAfter
	reapMinimum  = time.Minute      // DeregisterCriticalServiceAfter is at least this
)

func errUnknownService(id string) error {
	return api.Errorf(http.StatusNotFound,
		"Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
}

func errUnknownCheck(id string) error {
	return api.Errorf(http.StatusNotFound,
		"Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}

// DeregisterService removes a service with its checks.
func (s *State) DeregisterService(id string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if !s.hasService(id) {
		return errUnknownService(id)
	}
	return s.removeService(id)
}

// DeregisterCheck removes a check.
func (s *State) DeregisterCheck(id string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	known := s.checks[id] != nil
	s.mu.Unlock()
	if !known {
		return errUnknownCheck(id)
	}
	return s.removeCheck(id)
}

// removeService removes a service from disk, then from memory: if its file stayed, it
// would come back after a restart. Called with disk held.
func (s *State) removeService(id string) error {
	ids := s.checksOf(id)
	if err := s.forget(id, ids); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropService(id)
	s.wakeSync()
	return nil
}

// dropService removes a service and its checks from memory, and marks them for removal
// from the catalog. Called with mu held.
func (s *State) dropService(id string) {
	delete(s.services, id)
	s.goneServices[id] = true
	for c, e := range s.checks {
		if e.health.ServiceID == id {
			s.dropCheck(c)
		}
	}
	s.notify()
}

func (s *State) checksOf(serviceID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, e := range s.checks {
		if e.health.ServiceID == serviceID {
			ids = append(ids, id)
		}
	}
	return ids
}

// removeCheck removes a check from disk, then from memory. Called with disk held.
func (s *State) removeCheck(id string) error {
	if err := s.forget("", []string{id}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropCheck(id)
	s.wakeSync()
	return nil
}

// dropCheck stops a check, and marks it for removal from the catalog. Called with mu held.
func (s *State) dropCheck(id string) {
	e := s.checks[id]
	if e == nil {
		return
	}
	s.stopCheck(e)
	e.cancelDeferred()
	delete(s.checks, id)
	s.goneChecks[id] = e.health.ServiceID
	s.notify()
}

// reapLoop deregisters services with a check that has been critical for longer than its
// DeregisterCriticalServiceAfter.
func (s *State) reapLoop(ctx context.Context) {
	ticker := time.NewTicker(reapInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for id, checkID := range s.overdue(time.Now()) {
			err := s.DeregisterService(id)
			if err != nil {
				s.log.Error("cannot deregister a service that stays critical", "service", id, "check", checkID, "error", err)
				continue
			}
			s.log.Info("deregistered a service that stays critical", "service", id, "check", checkID)
		}
	}
}

// overdue returns the services to deregister, each with the check that is the reason.
func (s *State) overdue(now time.Time) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for id, e := range s.checks {
		after := e.def.DeregisterCriticalServiceAfter.D()
		if after <= 0 || e.health.ServiceID == "" || e.health.Status != api.HealthCritical {
			continue
		}
		if now.Sub(e.criticalSince) >= max(after, reapMinimum) {
			out[e.health.ServiceID] = id
		}
	}
	return out
}
