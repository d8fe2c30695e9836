package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// applyFailed is in front of what the state says about a new session.
const applyFailed = "apply failed: "

var errMissingSession = badRequest("Missing session")

// sessionBody is the body of session/create. An empty list of checks and null say
// no checks; only where nothing is said, the agent's health counts. Unknown
// fields are ignored.
type sessionBody struct {
	Name          string
	Node          string
	LockDelay     *lockDelay
	Behavior      string
	TTL           string
	Checks        json.RawMessage // older name of NodeChecks; wins
	NodeChecks    json.RawMessage // raw, to tell null from nothing
	ServiceChecks []api.SessionServiceCheck
}

// lockDelay reads a duration string or a number. A value below 1000 ns is in seconds, as
// in the reference.
type lockDelay time.Duration

func (d *lockDelay) UnmarshalJSON(data []byte) error {
	var v api.Duration
	if string(data) == `""` {
		return errors.New(`time: invalid duration ""`)
	}
	if err := v.UnmarshalJSON(data); err != nil {
		return err
	}
	if v < 1000 {
		v *= api.Duration(time.Second)
	}
	*d = lockDelay(max(v, 0))
	return nil
}

// nameNode makes the node of a new session the one it was asked for at.
func nameNode(rq *request) error {
	s, err := decodeSession(rq.body)
	if err != nil {
		return err
	}
	if s.Node == "" {
		s.Node = rq.api.cfg.NodeName
	}
	if rq.body, err = json.Marshal(s); err != nil {
		return fmt.Errorf("encode the session: %w", err)
	}
	return nil
}

// decodeSession returns the session that the body asks for, with the defaults filled
// in. Encoded as JSON and decoded again, the result is the same.
func decodeSession(body []byte) (*api.Session, error) {
	var in sessionBody
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil && err != io.EOF {
		return nil, api.Errorf(http.StatusBadRequest, "Request decode failed: %v", err)
	}
	s := &api.Session{
		Name: in.Name, Node: in.Node, LockDelay: api.DefaultLockDelay, Behavior: in.Behavior, TTL: in.TTL,
		NodeChecks: []string{api.SerfHealthID}, ServiceChecks: in.ServiceChecks,
	}
	if in.LockDelay != nil {
		s.LockDelay = time.Duration(*in.LockDelay)
	}
	for _, given := range []json.RawMessage{in.NodeChecks, in.Checks} {
		if given == nil {
			continue
		}
		s.NodeChecks = nil
		if err := json.Unmarshal(given, &s.NodeChecks); err != nil {
			return nil, api.Errorf(http.StatusBadRequest, "Request decode failed: %v", err)
		}
	}
	if in.Checks != nil && s.NodeChecks == nil {
		s.NodeChecks = []string{}
	}
	return s, nil
}

func (a *API) sessionCreate(rq *request) (any, error) {
	s, err := decodeSession(rq.body)
	if err != nil {
		return nil, err
	}
	switch s.Behavior {
	case "":
		s.Behavior = api.SessionRelease
	case api.SessionRelease, api.SessionDelete:
	default:
		return nil, serverError("Invalid Behavior setting '%s'", s.Behavior)
	}
	if err := a.checkTTL(s.TTL); err != nil {
		return nil, err
	}
	s.ID = uuid.NewString()
	if _, err := a.propose(rq, &state.SessionCreate{Session: *s}, applyFailed); err != nil {
		return nil, err
	}
	return struct{ ID string }{s.ID}, nil
}

func (a *API) checkTTL(text string) error {
	if text == "" {
		return nil
	}
	ttl, err := time.ParseDuration(text)
	if err != nil {
		return serverError("Session TTL '%s' invalid: %v", text, err)
	}
	if ttl != 0 && (ttl < a.cfg.SessionTTLMin || ttl > api.MaxSessionTTL) {
		return serverError("Invalid Session TTL '%d', must be between [%s=%s]", ttl, a.cfg.SessionTTLMin, api.MaxSessionTTL)
	}
	return nil
}

func (a *API) sessionDestroy(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingSession
	}
	if _, err := a.propose(rq, &state.SessionDestroy{ID: rq.name}, ""); err != nil {
		return nil, err
	}
	return true, nil
}

func (a *API) sessionRenew(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingSession
	}
	s, err := a.cfg.Cluster.RenewSession(rq.ctx, rq.name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, api.Errorf(http.StatusNotFound, "Session id '%s' not found", rq.name)
	}
	return []*api.Session{s}, nil
}

func (a *API) sessionInfo(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingSession
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		s, meta := sn.Session(rq.name)
		if s == nil {
			return view.Answer{Value: []*api.Session{}, Meta: meta, Missing: true}
		}
		return view.Answer{Value: []*api.Session{s}, Meta: meta}
	})
}

func (a *API) sessionNode(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingNode
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		sessions, meta := sn.NodeSessions(rq.name)
		return view.Answer{Value: sessions, Meta: meta}
	})
}

func (a *API) sessionList(rq *request) (any, error) {
	return asks(func(sn *state.Snapshot) view.Answer {
		sessions, meta := sn.Sessions()
		return view.Answer{Value: sessions, Meta: meta}
	})
}
