package httpapi

import "github.com/muster-dev/muster/pkg/api"

// What client agents ask for DNS; the public API has no such questions.

func (a *API) nodeByAddress(rq *request) (any, error) {
	node, _ := a.cfg.Cluster.Views().Snapshot().NodeByAddress(rq.name)
	return found(node)
}

func (a *API) serviceByAddress(rq *request) (any, error) {
	service, _ := a.cfg.Cluster.Views().Snapshot().ServiceByAddress(rq.name)
	return found(service)
}

func (a *API) electedNode(rq *request) (any, error) {
	node, _ := a.cfg.Cluster.Views().Snapshot().Elected(rq.name)
	return found(node)
}

func found[T api.Node | api.ServiceNode](v *T) (any, error) {
	if v == nil {
		return nil, api.Errorf(404, "there is none")
	}
	return v, nil
}
