package local

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/muster-dev/muster/pkg/agent/check"
	"github.com/muster-dev/muster/pkg/api"
)

// RegisterService adds or replaces a service with its checks. Existing checks keep their
// status. Checks that are not in reg stay, unless o.ReplaceExistingChecks is set.
func (s *State) RegisterService(reg *api.AgentServiceRegistration, o Options) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	p, err := s.prepareService(reg, o.FromConfig)
	if err != nil {
		return err
	}
	var old []string
	if o.ReplaceExistingChecks {
		old = s.otherChecks(p)
	}
	if o.FromConfig {
		err = s.unsave(p.svc.def.ID, p.checkIDs())
	} else {
		err = s.saveService(reg, p)
	}
	if err == nil {
		err = s.forget("", old)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putService(p)
	for _, id := range old {
		s.dropCheck(id)
	}
	s.wakeSync()
	return nil
}

// RegisterCheck adds or replaces a check of the node or of an existing service.
func (s *State) RegisterCheck(def *api.CheckDefinition, o Options) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	p, err := s.prepareCheck(def, o.FromConfig)
	if err != nil {
		return err
	}
	if id := p.def.ServiceID; id != "" && !s.hasService(id) {
		return api.Errorf(http.StatusNotFound, "ServiceID %q does not exist", id)
	}
	if o.FromConfig {
		err = s.unsave("", []string{p.def.ID})
	} else {
		err = s.saveCheck(p)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putCheck(p)
	s.wakeSync()
	return nil
}

func (p *prepared) checkIDs() []string {
	ids := make([]string, 0, len(p.checks))
	for _, c := range p.checks {
		ids = append(ids, c.def.ID)
	}
	return ids
}

func (s *State) hasService(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services[id] != nil
}

// otherChecks returns the checks of a service that are not in a new registration. The
// maintenance check is never part of a registration, so it is left out.
func (s *State) otherChecks(p *prepared) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := p.checkIDs()
	var ids []string
	for id, e := range s.checks {
		if e.health.ServiceID == p.svc.def.ID && !e.maintenance && !slices.Contains(keep, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// putService stores a prepared service in memory. Called with mu held.
func (s *State) putService(p *prepared) {
	id := p.svc.def.ID
	old := s.services[id]
	if old == nil {
		p.svc.touch()
		s.services[id] = p.svc
		delete(s.goneServices, id)
	} else {
		def := p.svc.def
		if def.EnableTagOverride && slices.Equal(old.tags, p.svc.tags) {
			c := *def
			c.Tags = old.def.Tags // may have been edited in the catalog
			def = &c
		}
		if !sameJSON(old.def, def) {
			old.touch()
		}
		old.def, old.tags, old.token, old.fromConfig = def, p.svc.tags, p.svc.token, p.svc.fromConfig
	}
	for _, c := range p.checks {
		s.putCheck(c)
	}
	s.nameChecks(s.services[id])
	s.notify()
}

// nameChecks updates the name and tags of a service in its checks. Called with mu held.
func (s *State) nameChecks(svc *service) {
	for _, e := range s.checks {
		if e.health.ServiceID != svc.def.ID {
			continue
		}
		if e.health.ServiceName != svc.def.Service || !slices.Equal(e.health.ServiceTags, svc.def.Tags) {
			e.health.ServiceName = svc.def.Service
			e.health.ServiceTags = slices.Clone(svc.def.Tags)
			e.touch()
		}
	}
}

// putCheck stores a prepared check in memory. An existing check keeps its status, and its
// runner unless the new definition runs differently. Called with mu held.
func (s *State) putCheck(p *preparedCheck) {
	health := s.health(p)
	e := s.checks[p.def.ID]
	if e == nil {
		e = s.newCheck(p, health)
		s.checks[p.def.ID] = e
		delete(s.goneChecks, p.def.ID)
	} else {
		health.Status, health.Output = e.health.Status, e.health.Output
		if !sameJSON(&health, &e.health) {
			e.touch()
		}
		same := sameJSON(howItRuns(e.def), howItRuns(p.def))
		e.def, e.health, e.maintenance = p.def, health, p.maintenance
		e.fromConfig, e.inService = p.fromConfig, p.inService
		switch {
		case !same:
			s.stopCheck(e)
			s.setRunner(e)
		case e.ttl() != nil && !p.fromConfig:
			e.ttl().Restart() // clients that register repeatedly rely on this
		}
	}
	s.notify()
}

// howItRuns returns the part of a definition whose change requires a new runner.
func howItRuns(def *api.CheckDefinition) *api.CheckDefinition {
	d := *def
	d.Name, d.Notes, d.ServiceID, d.Status, d.Token = "", "", "", "", ""
	d.DeregisterCriticalServiceAfter = 0
	return &d
}

// health returns a check in the form of the catalog, before its first run. Called with
// mu held.
func (s *State) health(p *preparedCheck) api.HealthCheck {
	d := p.def
	unset := "0s"
	if p.inService || p.maintenance {
		unset = ""
	}
	h := api.HealthCheck{
		Node: s.node.Node.Node, CheckID: d.ID, Name: d.Name, Status: cmp.Or(d.Status, api.HealthCritical),
		Notes: d.Notes, ServiceID: d.ServiceID, ServiceTags: []string{}, Type: check.Type(d),
		Interval: durationText(d.Interval, unset), Timeout: durationText(d.Timeout, unset),
	}
	if p.maintenance {
		h.Type = check.TypeMaintenance
	}
	if svc := s.services[d.ServiceID]; svc != nil {
		h.ServiceName = svc.def.Service
		h.ServiceTags = slices.Clone(svc.def.Tags)
	}
	return h
}

func durationText(d api.Duration, unset string) string {
	if d <= 0 {
		return unset
	}
	return d.String()
}

// UpdateTTL sets the status and output of a TTL check.
func (s *State) UpdateTTL(id, status, output string) error {
	if !check.ValidStatus(status) {
		return api.Errorf(http.StatusBadRequest, "Invalid check status: '%s'", status)
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	state, durably, err := s.setTTL(id, status, output)
	if err != nil {
		return err
	}
	if err := s.saveState(state, durably); err != nil {
		s.log.Warn("cannot keep the state of a TTL check: it starts critical after a restart", "check", id, "error", err)
	}
	return nil
}

// setTTL sets a TTL check. It returns the state to save, and whether to save it durably:
// a heartbeat that repeats the status is saved without fsync.
func (s *State) setTTL(id, status, output string) (state *savedState, durably bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.checks[id]
	if e == nil {
		return nil, false, errUnknownCheck(id)
	}
	if e.ttl() == nil {
		return nil, false, api.Errorf(http.StatusInternalServerError, "CheckID %q does not have associated TTL", id)
	}
	if s.discard {
		output = ""
	}
	kept, expires := e.ttl().Set(output)
	now := time.Now()
	durably = e.health.Status != status || e.keptUntil.Sub(now) < expires.Sub(now)/2
	if durably {
		e.keptUntil = expires
	}
	s.setHealth(e, status, kept)
	return &savedState{CheckID: id, Status: status, Output: kept, Expires: expires, Told: now}, durably, nil
}

const (
	nodeMaintenanceText    = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
	serviceMaintenanceText = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
)

// SetNodeMaintenance switches the maintenance mode of the node.
func (s *State) SetNodeMaintenance(on bool, reason string) error {
	return s.setMaintenance(on, &api.CheckDefinition{
		ID: api.NodeMaintenanceID, Name: "Node Maintenance Mode", Notes: cmp.Or(reason, nodeMaintenanceText),
	})
}

// SetServiceMaintenance switches the maintenance mode of a service.
func (s *State) SetServiceMaintenance(id string, on bool, reason string) error {
	return s.setMaintenance(on, &api.CheckDefinition{
		ID: api.ServiceMaintenancePrefix + id, Name: "Service Maintenance Mode", ServiceID: id,
		Notes: cmp.Or(reason, serviceMaintenanceText),
	})
}

// setMaintenance adds or removes a check that is always critical. An existing one keeps
// its reason.
func (s *State) setMaintenance(on bool, def *api.CheckDefinition) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if def.ServiceID != "" && !s.hasService(def.ServiceID) {
		return errUnknownService(def.ServiceID)
	}
	s.mu.Lock()
	exists := s.checks[def.ID] != nil
	s.mu.Unlock()
	if exists == on {
		return nil
	}
	if !on {
		return s.removeCheck(def.ID)
	}
	def.Notes = asStored(def.Notes)
	p := &preparedCheck{def: def, maintenance: true}
	if err := s.saveCheck(p); err != nil {
		return err
	}
	s.log.Info("maintenance mode on", "check", def.ID, "reason", def.Notes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putCheck(p)
	s.wakeSync()
	return nil
}
