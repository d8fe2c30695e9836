package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

var errMissingKey = badRequest("Missing key name")

// configPage is where the reference explains a limit.
const configPage = " See https://www.consul.io/docs/agent/config/config-files#"

func kvLimit(c *Config) (int64, string) { return c.MaxKVValueSize, configPage + "kv_max_value_size." }

// oneKey tells the reads of one key that do not wait.
func oneKey(rq *request) bool { return rq.index == 0 && !rq.has("recurse") && !rq.has("keys") }

func (a *API) kv(rq *request) (any, error) {
	switch rq.r.Method {
	case http.MethodPut:
		return a.kvPut(rq)
	case http.MethodDelete:
		return a.kvDelete(rq)
	}
	switch {
	case rq.has(changesSince):
		return asks(func(sn *state.Snapshot) view.Answer {
			changes, meta := sn.KVChanges(rq.name, rq.since())
			return view.Answer{Value: changes, Meta: meta}
		})
	case rq.has("keys"):
		return a.kvKeys(rq)
	case rq.has("recurse"):
		return a.kvList(rq)
	case rq.name == "":
		return nil, errMissingKey
	}
	return a.kvGet(rq)
}

func (a *API) kvGet(rq *request) (any, error) {
	query := func(sn *state.Snapshot) view.Answer {
		pair, meta := sn.KVGet(rq.name)
		return view.Answer{Value: pair, Meta: meta, Missing: pair == nil}
	}
	show := func(v any) (any, error) {
		pair := v.(*api.KVPair)
		switch {
		case pair == nil:
			return nil, errNotFound
		case rq.has("raw"):
			// A stored value is anybody's text: it must not run in a browser.
			h := rq.h
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Content-Security-Policy", "sandbox")
			return reply{http.StatusOK, "text/plain", pair.Value}, nil
		}
		return []*api.KVPair{pair}, nil
	}
	return read{query, show}, nil
}

func (a *API) kvList(rq *request) (any, error) {
	query := func(sn *state.Snapshot) view.Answer {
		pairs, meta := sn.KVList(rq.name)
		return view.Answer{Value: pairs, Meta: meta, Missing: len(pairs) == 0}
	}
	return read{query, func(v any) (any, error) {
		if len(v.([]*api.KVPair)) == 0 {
			return nil, errNotFound
		}
		return v, nil
	}}, nil
}

func (a *API) kvKeys(rq *request) (any, error) {
	separator := rq.param("seperator") // an old spelling that clients still send
	if rq.has("separator") {
		separator = rq.param("separator")
	}
	query := func(sn *state.Snapshot) view.Answer {
		keys, meta := sn.KVKeys(rq.name, separator)
		return view.Answer{Value: list(keys), Meta: meta, Missing: len(keys) == 0}
	}
	return read{query, func(v any) (any, error) {
		if len(v.([]string)) == 0 && rq.name != "" {
			return nil, errNotFound
		}
		return v, nil
	}}, nil
}

func (rq *request) conflictingFlags() error {
	return api.Errorf(http.StatusBadRequest, "Conflicting flags: %s", rq.r.URL.RawQuery)
}

func (a *API) kvPut(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingKey
	}
	cmd := &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: rq.name, Value: rq.body}}
	var err error
	if rq.has("flags") {
		if cmd.Entry.Flags, err = rq.number("flags"); err != nil {
			return nil, err
		}
	}
	given := 0
	if rq.has("cas") {
		given++
		cmd.Op = state.KVCAS
		if cmd.Index, err = rq.number("cas"); err != nil {
			return nil, err
		}
	}
	if rq.has("acquire") {
		given++
		cmd.Op, cmd.Entry.Session = state.KVLock, rq.param("acquire")
	}
	if rq.has("release") {
		given++
		cmd.Op, cmd.Entry.Session = state.KVUnlock, rq.param("release")
	}
	if given > 1 {
		return nil, rq.conflictingFlags()
	}
	if cmd.TTL, cmd.Fence, err = rq.kvExtras(); err != nil {
		return nil, err
	}
	if (cmd.Op == state.KVLock || cmd.Op == state.KVUnlock) && cmd.Entry.Session == "" {
		return nil, api.Errorf(http.StatusInternalServerError, "%smissing session", raftApplyFailed)
	}
	done, err := a.propose(rq, cmd, raftApplyFailed)
	if token, ok := done.(state.Acquired); ok {
		rq.h.Set(api.HeaderLockToken, strconv.FormatUint(uint64(token), 10))
		return true, nil
	}
	return done, err
}

// kvExtras reads what muster's writes have beyond the reference's: ?ttl, when the
// key vanishes by itself, and ?fence=KEY:TOKEN, which lets the write through only
// while KEY is held and was acquired at the index TOKEN.
func (rq *request) kvExtras() (ttl time.Duration, fence *state.Fence, err error) {
	if rq.has("ttl") {
		ttl, err = time.ParseDuration(rq.param("ttl"))
		if err != nil || ttl <= 0 || ttl > api.MaxKVTTL {
			return 0, nil, api.Errorf(http.StatusBadRequest, "Invalid ttl %q: it must be a duration above zero and at most %s, such as 30s", rq.param("ttl"), api.MaxKVTTL)
		}
	}
	if rq.has("fence") {
		value := rq.param("fence")
		at := strings.LastIndexByte(value, ':')
		token, err := strconv.ParseUint(value[at+1:], 10, 64)
		if at < 1 || err != nil {
			return 0, nil, api.Errorf(http.StatusBadRequest, "Invalid fence %q: it must be LOCKKEY:TOKEN, such as deploy/.lock:1234", value)
		}
		fence = &state.Fence{Key: value[:at], Token: token}
	}
	return ttl, fence, nil
}

func (a *API) kvDelete(rq *request) (any, error) {
	cmd := &state.KV{Op: state.KVDelete, Entry: api.KVPair{Key: rq.name}}
	switch {
	case rq.has("recurse") && rq.has("cas"):
		return nil, rq.conflictingFlags()
	case rq.has("recurse"):
		cmd.Op = state.KVDeleteTree
	case rq.name == "":
		return nil, errMissingKey
	case rq.has("cas"):
		index, err := rq.number("cas")
		if err != nil {
			return nil, err
		}
		cmd.Op, cmd.Index = state.KVDeleteCAS, index
	}
	var err error
	if _, cmd.Fence, err = rq.kvExtras(); err != nil {
		return nil, err
	}
	return a.propose(rq, cmd, raftApplyFailed)
}

const raftApplyFailed = "raft apply failed: "

// propose applies a command. An error is given the prefix, so that it reads as
// in the reference, but for those that tell whether the command was applied at
// all: clients match on them.
func (a *API) propose(rq *request, cmd state.Command, prefix string) (any, error) {
	v, err := a.cfg.Cluster.Propose(rq.ctx, cmd)
	if failed, isErr := v.(error); isErr && err == nil {
		v, err = nil, failed
	}
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, api.ErrNoLeader), errors.Is(err, api.ErrUnknownWrite), rq.ctx.Err() != nil:
		return nil, err
	}
	return nil, fmt.Errorf("%s%w", prefix, err)
}
