package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/conf"
)

// decode decodes the first JSON value of a body into v. Unknown fields are errors, so
// that a misspelt field is noticed. The shape, if not nil, is applied first.
func decode(body []byte, s *shape, v any) error {
	err := decodeStrictly(body, s, v)
	if err != nil {
		return api.Errorf(http.StatusBadRequest, "Request decode failed: %v", err)
	}
	return nil
}

func decodeStrictly(body []byte, s *shape, v any) error {
	var raw json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&raw); err != nil {
		return err
	}
	if s != nil {
		var err error
		if raw, err = s.rewrite(raw); err != nil {
			return err
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// shape describes how the JSON of a body may differ from its Go type. Its keys are in
// lower case, because fields are matched without regard to case. Maps whose keys are the
// user's have no shape, so their keys are kept.
type shape struct {
	alias  map[string]string // snake-case key -> field
	drop   []string          // accepted and ignored
	refuse []string          // fields of the Go type that are not allowed here
	sub    map[string]*shape // field -> shape of its object, or of each in its list
}

func (s *shape) rewrite(raw json.RawMessage) (json.RawMessage, error) {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if len(trimmed) == 0 {
		return raw, nil
	}
	switch trimmed[0] {
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, err
		}
		for i := range items {
			var err error
			if items[i], err = s.rewrite(items[i]); err != nil {
				return nil, err
			}
		}
		return json.Marshal(items)
	case '{':
		return s.rewriteObject(raw)
	}
	return raw, nil
}

func (s *shape) rewriteObject(raw json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	out := make(map[string]json.RawMessage, len(fields))
	keys := sortedKeys(fields)
	// Aliases come first, so that the field name wins if both are given.
	slices.SortStableFunc(keys, func(x, y string) int { return s.aliased(y) - s.aliased(x) })
	for _, key := range keys {
		value, lower := fields[key], strings.ToLower(key)
		if slices.Contains(s.drop, lower) {
			continue
		}
		if slices.Contains(s.refuse, lower) {
			return nil, fmt.Errorf("json: unknown field %q", key)
		}
		if field, ok := s.alias[lower]; ok {
			key = field
		}
		if sub := s.sub[lower]; sub != nil {
			var err error
			if value, err = sub.rewrite(value); err != nil {
				return nil, err
			}
		}
		out[key] = value
	}
	return json.Marshal(out)
}

func (s *shape) aliased(key string) int {
	if _, ok := s.alias[strings.ToLower(key)]; ok {
		return 1
	}
	return 0
}

// aliases are the spellings of configuration files for the fields of a T, where they are
// more than another case.
func aliases[T any]() map[string]string {
	out := conf.Spellings(reflect.TypeFor[T]())
	maps.DeleteFunc(out, strings.EqualFold)
	return out
}

// The shapes of bodies.
var (
	// At agent/check/register the id is in ID.
	checkShape = &shape{alias: aliases[api.CheckDefinition](), refuse: []string{"checkid"}}

	// In a check of a service the id is in CheckID. Its ServiceID is ignored, because the
	// check belongs to the service.
	checkInService = &shape{alias: checkShape.alias, refuse: []string{"id"}}

	// Consul's settings of its service mesh are ignored.
	serviceShape = &shape{
		alias: aliases[api.AgentServiceRegistration](),
		drop:  []string{"connect", "proxy", "locality"},
		sub:   map[string]*shape{"check": checkInService, "checks": checkInService},
	}

	// Clients may send a token, and objects as they read them, with their indexes.
	catalogShape = &shape{
		drop: []string{"locality", "token", "createindex", "modifyindex"},
		sub:  map[string]*shape{"service": {drop: []string{"locality", "datacenter", "contenthash"}}},
	}

	// Old clients send an Address and a token.
	deregisterShape = &shape{drop: []string{"address", "token"}}
)
