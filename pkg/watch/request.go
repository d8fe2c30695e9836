package watch

import (
	"fmt"
	"net/url"

	"github.com/muster-dev/muster/pkg/query"
)

// RequestFor is the request of the HTTP API that answers q.
func RequestFor(q query.Query) (Request, error) {
	if path, ok := q.Path(); ok && q == (query.Query{Kind: query.KindService, Name: q.Name, Passing: true}) {
		return Request{Path: path, Params: "passing=1"}, nil // the most frequent query
	}
	params, err := url.ParseQuery(q.Params)
	if err != nil {
		return Request{}, err
	}
	if q.Datacenter != "" {
		params.Set("dc", q.Datacenter)
	}
	if q.Near != "" {
		params.Set("near", q.Near)
	}
	path, ok := q.Path()
	if !ok {
		return Request{}, fmt.Errorf("%s: no path of the API leads to that name", q)
	}
	switch q.Kind {
	case query.KindPrefix:
		params.Set("recurse", "")
	case query.KindService:
		if q.Tag != "" {
			params.Set("tag", q.Tag)
		}
		if q.Passing {
			params.Set("passing", "1")
		}
	}
	return Request{Path: path, Params: params.Encode()}, nil
}
