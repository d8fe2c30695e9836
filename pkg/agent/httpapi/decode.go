package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// decode reads the first JSON value of a body into v. Unknown fields are
// errors: a misspelt field must not be a silent default. What the shape says is
// applied first; a nil one says nothing.
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

// shape describes what the JSON of a body may look like beyond its Go type. It
// names keys in lower case, because fields are matched without regard to case.
// Maps with keys of the user's are not described, so they keep them.
type shape struct {
	alias  map[string]string // snake-case key -> field
	drop   []string          // accepted and ignored
	refuse []string          // fields of the Go type that do not belong here
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
	// Aliases first, so that the real name wins where both are given.
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

// checkAliases are the snake-case names of a check definition's fields.
func checkAliases() map[string]string {
	return map[string]string{
		"service_id": "ServiceID", "args": "ScriptArgs", "script_args": "ScriptArgs",
		"docker_container_id": "DockerContainerID", "disable_redirects": "DisableRedirects",
		"tls_server_name": "TLSServerName", "tls_skip_verify": "TLSSkipVerify", "tcp_use_tls": "TCPUseTLS",
		"grpc_use_tls": "GRPCUseTLS", "h2ping_use_tls": "H2PingUseTLS", "os_service": "OSService",
		"alias_node": "AliasNode", "alias_service": "AliasService",
		"success_before_passing": "SuccessBeforePassing", "failures_before_warning": "FailuresBeforeWarning",
		"failures_before_critical":          "FailuresBeforeCritical",
		"deregister_critical_service_after": "DeregisterCriticalServiceAfter",
		"output_max_size":                   "OutputMaxSize",
	}
}

// checkShape is the body of agent/check/register, where the id is ID.
func checkShape() *shape {
	return &shape{alias: checkAliases(), refuse: []string{"checkid"}}
}

// serviceShape is the body of agent/service/register. In its checks the id is
// CheckID, and belongs to the service whatever they say. The mesh's objects are
// ignored.
func serviceShape() *shape {
	check := &shape{alias: checkAliases(), refuse: []string{"id"}}
	return &shape{
		alias: map[string]string{
			"tagged_addresses": "TaggedAddresses", "enable_tag_override": "EnableTagOverride",
			"socket_path": "SocketPath",
		},
		drop: []string{"connect", "proxy", "locality"},
		sub:  map[string]*shape{"check": check, "checks": check},
	}
}

// catalogShape is the body of catalog/register. Clients send back what they have
// read, with its indexes, and their token.
func catalogShape() *shape {
	return &shape{
		drop: []string{"locality", "token", "createindex", "modifyindex"},
		sub:  map[string]*shape{"service": {drop: []string{"locality", "datacenter", "contenthash"}}},
	}
}

// deregisterShape tolerates the Address that old clients send, and a token.
func deregisterShape() *shape { return &shape{drop: []string{"address", "token"}} }
