package httpapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// instancesPath is the row of healthService in the table.
const instancesPath = "/v1/health/service/"

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type checksQuery func(*state.Snapshot) ([]*api.HealthCheck, state.Meta)

// checks answers with the checks of a query that the filter keeps.
func (rq *request) checks(q checksQuery) (any, error) {
	keep, err := filterFor[*api.HealthCheck](rq)
	if err != nil {
		return nil, err
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		rows, meta := q(sn)
		return view.Answer{Value: keep.rows(rows), Meta: meta}
	})
}

func (a *API) healthNode(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingNode
	}
	return rq.checks(func(sn *state.Snapshot) ([]*api.HealthCheck, state.Meta) {
		return sn.HealthNode(rq.name)
	})
}

func (a *API) healthChecks(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing service name")
	}
	return rq.checks(func(sn *state.Snapshot) ([]*api.HealthCheck, state.Meta) {
		return sn.HealthChecks(rq.name, rq.nodeMeta)
	})
}

func (a *API) healthState(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing check state")
	}
	wanted := strings.ToLower(rq.name)
	return rq.checks(func(sn *state.Snapshot) ([]*api.HealthCheck, state.Meta) {
		return sn.HealthState(wanted, rq.nodeMeta)
	})
}

func (a *API) healthService(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing service name")
	}
	passing, err := rq.passing()
	if err != nil {
		return nil, err
	}
	keep, err := filterFor[*api.CheckServiceNode](rq)
	if err != nil {
		return nil, err
	}
	return read{query: instances(rq.name, state.Select{Tags: rq.tags(), NodeMeta: rq.nodeMeta, Passing: passing}, keep)}, nil
}

func instances(name string, sel state.Select, keep *filter[*api.CheckServiceNode]) view.Query {
	return func(sn *state.Snapshot) view.Answer {
		rows, meta := sn.HealthService(name, sel)
		return view.Answer{Value: keep.rows(rows), Meta: meta} // a list of *api.CheckServiceNode
	}
}

// Instances is the read of GET health/service, for DNS on a server: the same query, and
// the key of the same view. Names and tags have no case.
func Instances(name string, tags []string) (key string, query view.Query) {
	values := url.Values{}
	for _, tag := range tags {
		values.Add("tag", strings.ToLower(tag))
	}
	name = strings.ToLower(name)
	return viewKey(values, instancesPath+name), instances(name, state.Select{Tags: tags}, nil)
}

func (rq *request) passing() (bool, error) {
	if !rq.has("passing") {
		return false, nil
	}
	v := rq.param("passing")
	if v == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, api.Errorf(http.StatusBadRequest, "Invalid value for ?passing")
	}
	return on, nil
}
