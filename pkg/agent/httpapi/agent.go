package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// Self is the answer of agent/self.
type Self struct {
	Config      SelfConfig
	DebugConfig map[string]any
	Coord       any
	Member      api.Member
	Stats       map[string]map[string]string
	Meta        map[string]string
}

// SelfConfig is the part of the configuration that clients read.
type SelfConfig struct {
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	NodeID            string
	Revision          string
	Server            bool
	Version           string
	BuildDate         string
}

func (a *API) agentSelf(*request) (any, error) { return a.cfg.Agent.Self(), nil }

func (a *API) agentVersion(*request) (any, error) { return a.cfg.Version, nil }

func (a *API) agentMembers(rq *request) (any, error) {
	wan, segment := rq.param("wan") != "", rq.param("segment")
	switch {
	case wan && segment != "":
		return nil, badRequest("Cannot provide a segment with wan=true")
	case segment != "" && segment != "_all":
		return nil, serverError("Network segments are not supported in this version of Consul")
	}
	keep, err := filterFor[api.Member](rq)
	if err != nil {
		return nil, err
	}
	if wan {
		return []api.Member{}, nil // there is no pool that spans datacenters yet
	}
	return keep.rows(a.cfg.Members.Members()), nil
}

// agentMetrics is JSON unless the caller asks for what Prometheus reads.
func (a *API) agentMetrics(rq *request) (any, error) {
	accept := strings.ReplaceAll(rq.r.Header.Get("Accept"), " ", "")
	prometheus := rq.param("format") == "prometheus" ||
		strings.Contains(accept, "application/openmetrics-text") ||
		strings.Contains(accept, "text/plain;version=0.4.0") || strings.Contains(accept, "text/plain;version=0.0.4")
	switch {
	case !prometheus:
		return a.cfg.Agent.Metrics()
	case a.cfg.Prometheus == nil:
		rq.h.Set(api.HeaderReason, "Prometheus is not enabled since its retention time is not positive")
		return nil, nil
	}
	return a.cfg.Prometheus, nil
}

func (a *API) agentJoin(rq *request) (any, error) {
	if rq.param("wan") != "" {
		return nil, serverError("join %s: there is no pool that spans datacenters in this version", rq.name)
	}
	if rq.name == "" {
		return nil, serverError("1 error occurred:\n\t* Failed to join: no address given")
	}
	_, err := a.cfg.Members.Join([]string{rq.name})
	if err == nil {
		return nil, nil
	}
	if text := strings.TrimSpace(err.Error()); strings.Contains(text, "Failed to join") {
		return nil, serverError("%s", text)
	}
	return nil, serverError("1 error occurred:\n\t* Failed to join %s: %v", rq.name, err)
}

func (a *API) agentLeave(rq *request) (any, error) { return nil, a.cfg.Agent.Leave(rq.ctx) }

func (a *API) agentForceLeave(rq *request) (any, error) {
	known := false
	for _, m := range a.cfg.Members.Members() {
		known = known || m.Name == rq.name
	}
	if !known {
		return nil, serverError("agent: No node found with name '%s'", rq.name)
	}
	return nil, a.cfg.Members.ForceLeave(rq.name, rq.has("prune"))
}

func (a *API) agentReload(*request) (any, error) { return nil, a.cfg.Agent.Reload() }

func (a *API) agentMaintenance(rq *request) (any, error) {
	on, err := rq.enable()
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Local.SetNodeMaintenance(on, rq.param("reason"))
}

func (rq *request) enable() (bool, error) {
	if !rq.has("enable") {
		return false, badRequest("Missing value for enable")
	}
	v := rq.param("enable")
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, badRequest(fmt.Sprintf("Invalid value for enable: %q", v))
	}
	return on, nil
}

// reason is the text that a client reads beside the status. It may hold a name from
// the request: what no header may hold is left out (RFC 9110, 5.5).
func (rq *request) reason(text string) {
	rq.h.Set(api.HeaderReason, strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, text))
}

// wantsText says whether the request asks for a bare status: there are two ways.
func (rq *request) wantsText() bool {
	if format := rq.param("format"); format != "" {
		return format == "text"
	}
	return strings.Contains(rq.r.Header.Get("Accept"), "text/plain")
}

// healthCode is the HTTP status that stands for an aggregated one.
func healthCode(status string) int {
	switch status {
	case api.HealthPassing:
		return http.StatusOK
	case api.HealthWarning:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

func (rq *request) health(code int, status string, v any) (any, error) {
	rq.reason(status)
	if rq.wantsText() {
		return reply{code, "text/plain", []byte(status)}, nil
	}
	return reply{code, typeJSON, v}, nil
}

// serviceHealth joins a service with its own checks and the node's.
func serviceHealth(svc *api.AgentService, all map[string]*api.HealthCheck) *api.AgentServiceHealth {
	h := &api.AgentServiceHealth{Service: svc, Checks: []*api.HealthCheck{}}
	for _, id := range sortedKeys(all) {
		if c := all[id]; c.ServiceID == "" || c.ServiceID == svc.ID {
			h.Checks = append(h.Checks, c)
		}
	}
	h.AggregatedStatus = api.AggregatedStatus(h.Checks)
	return h
}

func (a *API) agentHealthByID(rq *request) (any, error) {
	if rq.name == "" {
		return nil, serverError("Missing serviceID")
	}
	svc := a.cfg.Local.Services()[rq.name]
	if svc == nil {
		text := "ServiceId " + rq.name + " not found"
		rq.reason(text)
		if rq.wantsText() {
			return reply{http.StatusNotFound, "text/plain", []byte(text)}, nil
		}
		return reply{http.StatusNotFound, typeJSON, api.AgentServiceHealth{AggregatedStatus: api.HealthCritical}}, nil
	}
	h := serviceHealth(svc, a.cfg.Local.Checks())
	return rq.health(healthCode(h.AggregatedStatus), h.AggregatedStatus, h)
}

func (a *API) agentHealthByName(rq *request) (any, error) {
	if rq.name == "" {
		return nil, serverError("Missing service Name")
	}
	services, checks := a.cfg.Local.Services(), a.cfg.Local.Checks()
	found, worst := []*api.AgentServiceHealth{}, api.HealthPassing
	for _, id := range sortedKeys(services) {
		if services[id].Service != rq.name {
			continue
		}
		h := serviceHealth(services[id], checks)
		found = append(found, h)
		worst = worse(worst, h.AggregatedStatus)
	}
	if len(found) == 0 {
		text := "ServiceName " + rq.name + " Not Found"
		rq.reason(text)
		if rq.wantsText() {
			return reply{http.StatusNotFound, "text/plain", []byte(text)}, nil
		}
		return reply{http.StatusNotFound, typeJSON, found}, nil
	}
	return rq.health(healthCode(worst), worst, found)
}

func worse(a, b string) string {
	rank := map[string]int{api.HealthPassing: 0, api.HealthWarning: 1, api.HealthCritical: 2, api.HealthMaintenance: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
