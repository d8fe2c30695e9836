package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/api"
)

func (a *API) agentServices(rq *request) (any, error) {
	keep, err := filterFor[*api.AgentService](rq)
	if err != nil {
		return nil, err
	}
	services := map[string]*api.AgentService{}
	for id, svc := range a.cfg.Local.Services() {
		if keep.one(svc) {
			services[id] = svc
		}
	}
	return services, nil
}

func (a *API) agentChecks(rq *request) (any, error) {
	keep, err := filterFor[*api.HealthCheck](rq)
	if err != nil {
		return nil, err
	}
	checks := map[string]*api.HealthCheck{}
	for id, c := range a.cfg.Local.Checks() {
		if keep.one(c) {
			checks[id] = c
		}
	}
	return checks, nil
}

// agentService answers with one service. Given the hash of an earlier answer, it waits
// until the hash differs.
func (a *API) agentService(rq *request) (any, error) {
	if err := rq.parseWait(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(rq.ctx, rq.wait())
	defer cancel()
	var svc *api.AgentService
	var hash string
	err := a.cfg.Local.Await(ctx, func() bool {
		if svc = a.cfg.Local.Services()[rq.name]; svc == nil {
			return true
		}
		hash = contentHash(svc)
		return rq.hash == "" || rq.hash != hash
	})
	switch {
	case err != nil && rq.ctx.Err() != nil && !stopping(rq.ctx):
		return nil, err
	case svc == nil:
		return nil, api.Errorf(http.StatusNotFound, "unknown service ID: %s", rq.name)
	}
	shown := *svc
	shown.ContentHash = hash
	rq.h.Set(api.HeaderContentHash, hash)
	return &shown, nil
}

// contentHash returns a hash that differs between two definitions of a service.
func contentHash(svc *api.AgentService) string {
	plain := *svc
	plain.ContentHash, plain.CreateIndex, plain.ModifyIndex = "", 0, 0
	text, _ := json.Marshal(plain) // strings and numbers only: cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func (a *API) agentServiceRegister(rq *request) (any, error) {
	var reg api.AgentServiceRegistration
	if err := decode(rq.body, serviceShape, &reg); err != nil {
		return nil, err
	}
	replace := rq.has("replace-existing-checks")
	if v := rq.param("replace-existing-checks"); v != "" {
		replace = v == "true"
	}
	return nil, a.cfg.Local.RegisterService(&reg, local.Options{ReplaceExistingChecks: replace})
}

func (a *API) agentServiceDeregister(rq *request) (any, error) {
	return nil, a.cfg.Local.DeregisterService(rq.name)
}

func (a *API) agentServiceMaintenance(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing service ID")
	}
	on, err := rq.enable()
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Local.SetServiceMaintenance(rq.name, on, rq.param("reason"))
}

func (a *API) agentCheckRegister(rq *request) (any, error) {
	var def api.CheckDefinition
	if err := decode(rq.body, checkShape, &def); err != nil {
		return nil, err
	}
	return nil, a.cfg.Local.RegisterCheck(&def, local.Options{})
}

func (a *API) agentCheckDeregister(rq *request) (any, error) {
	return nil, a.cfg.Local.DeregisterCheck(rq.name)
}

func (a *API) agentCheckPass(rq *request) (any, error) { return a.note(rq, api.HealthPassing) }
func (a *API) agentCheckWarn(rq *request) (any, error) { return a.note(rq, api.HealthWarning) }
func (a *API) agentCheckFail(rq *request) (any, error) { return a.note(rq, api.HealthCritical) }

func (a *API) note(rq *request, status string) (any, error) {
	return nil, a.cfg.Local.UpdateTTL(rq.name, status, rq.param("note"))
}

func (a *API) agentCheckUpdate(rq *request) (any, error) {
	var update struct{ Status, Output string }
	if err := decode(rq.body, nil, &update); err != nil {
		return nil, err
	}
	switch update.Status {
	case api.HealthPassing, api.HealthWarning, api.HealthCritical:
		return nil, a.cfg.Local.UpdateTTL(rq.name, update.Status, update.Output)
	}
	return nil, api.Errorf(http.StatusBadRequest, "Invalid check status: '%s'", update.Status)
}
