package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
)

func (a *API) eventFire(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing name")
	}
	if err := rq.parseDatacenter(); err != nil {
		return nil, err
	}
	return a.cfg.Events.Fire(api.Event{
		Name: rq.name, Payload: rq.body,
		NodeFilter: rq.param("node"), ServiceFilter: rq.param("service"), TagFilter: rq.param("tag"),
	})
}

// eventList shows the events that this agent has kept. Its index is compared
// for equality only.
func (a *API) eventList(rq *request) (any, error) {
	wait, err := rq.parseIndex(a.cfg.MaxQueryTime)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(rq.ctx, wait)
	defer cancel()
	list, err := a.cfg.Events.List(ctx, rq.param("name"), rq.index)
	if err != nil && rq.ctx.Err() != nil && !errors.Is(err, ErrStopping) {
		return nil, err // the client has gone
	}
	rq.w.Header().Set(api.HeaderIndex, strconv.FormatUint(list.Index, 10))
	if rq.has("pretty") || a.cfg.AlwaysPretty {
		return list.Events, nil
	}
	return reply{http.StatusOK, typeJSON, list.JSON()}, nil
}

// busMessages is where other agents hold their streams, and send what they
// publish.
func (a *API) busMessages(rq *request) (any, error) {
	if rq.r.Method == http.MethodPut {
		return nil, a.cfg.Bus.Accept(rq.body)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.cfg.Bus.ServeStream(w, r); err != nil {
			rq.fail(err)
		}
	}), nil
}
