package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// Decode decodes the body of an answer into the type of its request; a nil body means
// "absent".
//
//	/v1/kv/KEY                                  *api.KVPair, nil when absent
//	/v1/kv/PREFIX?recurse                       []*api.KVPair
//	/v1/kv/PREFIX?keys                          []string
//	/v1/health/service/NAME                     []*api.CheckServiceNode
//	/v1/health/{node,checks,state}/NAME         []*api.HealthCheck
//	/v1/catalog/services                        map[string][]string
//	/v1/catalog/service/NAME                    []*api.ServiceNode
//	/v1/catalog/nodes                           []*api.Node
//	/v1/catalog/node/NAME                       *api.NodeServices, nil when unknown
//	/v1/catalog/datacenters                     []string
//	/v1/event/list                              []*api.Event
//	/v1/event/log                               []*api.DurableEvent
//	anything else                               what encoding/json makes of it
func Decode(q Request, body []byte) (any, error) {
	path := q.Path
	switch {
	case isKV(q):
		return decodeKV(q, body)
	case strings.HasPrefix(path, "/v1/health/service/"):
		return decode[[]*api.CheckServiceNode](q, body)
	case strings.HasPrefix(path, "/v1/health/"):
		return decode[[]*api.HealthCheck](q, body)
	case path == "/v1/catalog/services":
		return decode[map[string][]string](q, body)
	case strings.HasPrefix(path, "/v1/catalog/service/"):
		return decode[[]*api.ServiceNode](q, body)
	case path == "/v1/catalog/nodes":
		return decode[[]*api.Node](q, body)
	case strings.HasPrefix(path, "/v1/catalog/node/"):
		return decode[*api.NodeServices](q, body)
	case path == "/v1/catalog/datacenters":
		return decode[[]string](q, body)
	case isEvents(q):
		return decode[[]*api.Event](q, body)
	case isEventLog(q):
		return decode[[]*api.DurableEvent](q, body)
	}
	return decode[any](q, body)
}

func decodeKV(q Request, body []byte) (any, error) {
	params, err := url.ParseQuery(q.Params)
	if err != nil {
		return nil, fmt.Errorf("read parameters of %s: %w", q, err)
	}
	switch {
	case params.Has("keys"):
		return decode[[]string](q, body)
	case params.Has("recurse"):
		return decode[[]*api.KVPair](q, body)
	}
	pairs, err := decode[[]*api.KVPair](q, body)
	if err != nil || len(pairs) == 0 {
		return (*api.KVPair)(nil), err
	}
	return pairs[0], nil
}

func decode[T any](q Request, body []byte) (T, error) {
	var v T
	if body == nil {
		return v, nil
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read answer of %s: %w", q, err)
	}
	return v, nil
}

func isKV(q Request) bool { return strings.HasPrefix(q.Path, "/v1/kv/") }

// isEvents reports whether a request lists an agent's own events. Their index stands for
// the newest event and is compared for equality; no leader confirms them, and an
// agent that was restarted has none.
func isEvents(q Request) bool { return q.Path == "/v1/event/list" }

// isEventLog reports whether a request lists durable events, which Consul does not have.
func isEventLog(q Request) bool { return q.Path == "/v1/event/log" }

// isEmpty reports whether a body is absent, null, [] or {}.
func isEmpty(body []byte) bool {
	switch b := bytes.TrimSpace(body); len(b) {
	case 0:
		return true
	case 2:
		return b[0] == '[' || b[0] == '{'
	default:
		return bytes.Equal(b, []byte("null"))
	}
}

// DecodeStored decodes a result that Body has encoded.
func DecodeStored(q Request, body []byte, index uint64) (Result, error) {
	if string(body) == "null" && isKV(q) {
		body = nil
	}
	return resultOf(q, body, index)
}

// Body encodes a result's value as the HTTP API does, for DecodeStored.
func (r Result) Body() ([]byte, error) {
	if pair, ok := r.Value.(*api.KVPair); ok && pair != nil {
		return json.Marshal([]*api.KVPair{pair})
	}
	return json.Marshal(r.Value)
}
