package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

const eventLogPath = "/v1/event/log/"

func eventLimit(*Config) (int64, string) { return api.MaxEventPayload, "" }

var errMissingEvent = badRequest("Missing name")

func (a *API) eventFire(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingEvent
	}
	if rq.has("durable") {
		return http.HandlerFunc(rq.fireDurable), nil
	}
	if err := rq.parseDatacenter(); err != nil {
		return nil, err
	}
	return a.cfg.Events.Fire(api.Event{
		Name: rq.name, Payload: rq.body,
		NodeFilter: rq.param("node"), ServiceFilter: rq.param("service"), TagFilter: rq.param("tag"),
	})
}

// eventList lists the events of this agent. Its index is compared for equality only.
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
	rq.h.Set(api.HeaderIndex, strconv.FormatUint(list.Index, 10))
	if rq.has("pretty") || a.cfg.AlwaysPretty {
		return list.Events, nil
	}
	return reply{http.StatusOK, typeJSON, list.JSON()}, nil
}

// fireDurable serves the request as one of the event log, which runs at the leader.
func (rq *request) fireDurable(w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = eventLogPath+rq.name, ""
	r.Body = io.NopCloser(bytes.NewReader(rq.body))
	rq.api.serve(w, r, rq.origin)
}

func (a *API) eventLogFire(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingEvent
	}
	for _, filter := range []string{"node", "service", "tag"} {
		if rq.has(filter) {
			return nil, badRequest("A durable event has no filters (?" + filter + "): its readers choose it by name")
		}
	}
	ttl := api.DefaultEventTTL
	if v := rq.param("ttl"); v != "" {
		var err error
		if ttl, err = time.ParseDuration(v); err != nil || ttl < api.MinEventTTL || ttl > api.MaxEventTTL {
			return nil, api.Errorf(http.StatusBadRequest, "Invalid ttl %q: it must be between %v and %v, such as 1h", v, api.MinEventTTL, api.MaxEventTTL)
		}
	}
	return a.propose(rq, &state.EventFire{ID: uuid.NewString(), Name: rq.name, Payload: rq.body, TTL: ttl}, "")
}

// eventLog lists durable events; see api.DurableEvent.
func (a *API) eventLog(rq *request) (any, error) {
	name, since := rq.param("name"), uint64(0)
	if v := rq.param("since"); v != "" {
		var err error
		if since, err = strconv.ParseUint(v, 10, 64); err != nil {
			return nil, badRequest("Invalid since")
		}
	}
	if rq.has("acks") {
		return asks(func(sn *state.Snapshot) view.Answer {
			events, meta := sn.EventLogAcks(name, since)
			return view.Answer{Value: events, Meta: meta}
		})
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		events, meta := sn.EventLog(name, since)
		return view.Answer{Value: events, Meta: meta}
	})
}

// eventAck reads a durable event with its acknowledgements, or acknowledges it.
func (a *API) eventAck(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing event id")
	}
	if rq.r.Method == http.MethodPut {
		_, err := a.propose(rq, &state.EventAck{ID: rq.name, Node: rq.param("node")}, "")
		return true, err
	}
	query := func(sn *state.Snapshot) view.Answer {
		acks, meta := sn.EventAcks(rq.name)
		return view.Answer{Value: acks, Meta: meta, Missing: acks == nil}
	}
	return read{query, func(v any) (any, error) {
		if v.(*api.EventAcks) == nil {
			return nil, errNotFound
		}
		return v, nil
	}}, nil
}

// nameAcknowledger makes the node of an acknowledgement the one it was asked for at.
func nameAcknowledger(rq *request) error {
	if rq.r.Method != http.MethodPut || rq.has("node") {
		return nil
	}
	if rq.values == nil {
		rq.values = url.Values{}
	}
	rq.values.Set("node", rq.api.cfg.NodeName)
	rq.r.URL.RawQuery = rq.values.Encode()
	return nil
}

// busMessages serves the streams of other agents, and accepts the messages that they
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
