package httpapi

import (
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

func (a *API) statusLeader(*request) (any, error) { return a.cfg.Cluster.StatusLeader(), nil }

func (a *API) statusPeers(*request) (any, error) { return list(a.cfg.Cluster.Peers()), nil }

func (a *API) operatorRaft(*request) (any, error) {
	conf := a.cfg.Cluster.RaftConfiguration()
	conf.Servers = list(conf.Servers)
	return conf, nil
}

// nothing answers reads of things that muster does not have, such as the lists of the
// mesh, with an empty list: some clients read these always.
func (a *API) nothing(rq *request) (any, error) {
	return asks(func(*state.Snapshot) view.Answer {
		return view.Answer{Value: []struct{}{}, Meta: state.Meta{Index: 1}}
	})
}

// coordinateDatacenters answers without coordinates: there are none yet.
func (a *API) coordinateDatacenters(*request) (any, error) {
	type area struct {
		Datacenter  string
		AreaID      string
		Coordinates []struct{}
	}
	return []area{{a.cfg.Datacenter, "wan", []struct{}{}}}, nil
}

func (a *API) coordinateNode(*request) (any, error) { return nil, errNotFound }

var errNotFound = api.Errorf(404, "")

// list is rows, but never nil: an empty list is [] in JSON.
func list[T any](rows []T) []T {
	if rows == nil {
		return []T{}
	}
	return rows
}
