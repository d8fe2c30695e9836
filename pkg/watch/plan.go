package watch

import (
	"fmt"
	"net/url"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/query"
)

// Plan turns what people ask for into a query of the HTTP API.
func Plan(q query.Query) (Query, error) {
	if q == (query.Query{Kind: query.KindService, Name: q.Name, Passing: true}) {
		return Query{Path: "/v1/health/service/" + q.Name, Params: "passing=1"}, nil // most of all look-ups
	}
	params, err := url.ParseQuery(q.Params)
	if err != nil {
		return Query{}, err
	}
	if q.Datacenter != "" {
		params.Set("dc", q.Datacenter)
	}
	if q.Near != "" {
		params.Set("near", q.Near)
	}
	var path string
	switch q.Kind {
	case query.KindKey:
		path = client.KVPath(q.Name)
	case query.KindPrefix:
		path = client.KVPath(q.Name)
		params.Set("recurse", "")
	case query.KindService:
		path = "/v1/health/service/" + q.Name
		if q.Tag != "" {
			params.Set("tag", q.Tag)
		}
		if q.Passing {
			params.Set("passing", "1")
		}
	case query.KindServices:
		path = "/v1/catalog/services"
	case query.KindNode:
		path = "/v1/catalog/node/" + q.Name
	case query.KindNodes:
		path = "/v1/catalog/nodes"
	case query.KindDatacenters:
		path = "/v1/catalog/datacenters"
	default:
		return Query{}, fmt.Errorf("no such kind of data: %s", q.Kind)
	}
	return Query{Path: path, Params: params.Encode()}, nil
}
