package local

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/check"
	"github.com/muster-dev/muster/pkg/api"
)

// The texts in this file are part of the API.

// prepared is a valid registration with its defaults filled in.
type prepared struct {
	svc    *service
	checks []*preparedCheck
}

type preparedCheck struct {
	def         *api.CheckDefinition // our own copy; ID and Name are set
	inService   bool                 // part of a service's registration
	fromConfig  bool
	maintenance bool
	state       *savedState // of a TTL check, saved by an earlier run; may be nil
}

func (s *State) prepareService(reg *api.AgentServiceRegistration, fromConfig bool) (*prepared, error) {
	if reg.Name == "" {
		return nil, api.Errorf(http.StatusBadRequest, "Missing service name")
	}
	if isAnyIP(reg.Address) {
		return nil, api.Errorf(http.StatusBadRequest, "Invalid service address")
	}
	if err := validateMeta(reg.Meta); err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "Invalid Service Meta: %v", err)
	}
	if err := validateWeights(reg.Weights); err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "Invalid Weights: %v", err)
	}
	if err := validateTagged(reg.TaggedAddresses); err != nil {
		return nil, api.Errorf(http.StatusInternalServerError, "%v", err)
	}
	def := serviceDef(reg)
	p := &prepared{svc: &service{def: def, tags: def.Tags, token: reg.Token, fromConfig: fromConfig}}
	for _, d := range serviceChecks(reg, def) {
		if d.Status != "" && !check.ValidStatus(d.Status) {
			return nil, api.Errorf(http.StatusBadRequest, "Status for checks must 'passing', 'warning', 'critical'")
		}
		if err := s.validateCheck(d, fromConfig); err != nil {
			return nil, err
		}
		p.checks = append(p.checks, &preparedCheck{def: d, inService: true, fromConfig: fromConfig, state: s.ttlState(d)})
	}
	return p, nil
}

func (s *State) prepareCheck(def *api.CheckDefinition, fromConfig bool) (*preparedCheck, error) {
	if def.Name == "" {
		return nil, api.Errorf(http.StatusBadRequest, "Missing check name")
	}
	if def.Status != "" && !check.ValidStatus(def.Status) {
		return nil, api.Errorf(http.StatusBadRequest, "Bad check status")
	}
	d := cloneJSON(def)
	d.ID = cmp.Or(def.ID, def.CheckID, def.Name)
	d.CheckID = ""
	if err := s.validateCheck(d, fromConfig); err != nil {
		return nil, err
	}
	return &preparedCheck{def: d, fromConfig: fromConfig, state: s.ttlState(d)}, nil
}

// validateCheck says why a check may not run on this agent; nil if it may.
func (s *State) validateCheck(d *api.CheckDefinition, fromConfig bool) error {
	if err := check.Validate(d); err != nil {
		return api.Errorf(http.StatusBadRequest, "Invalid check: %v", err)
	}
	if err := check.Supported(d); err != nil {
		return err
	}
	if !check.IsScript(d) || s.cfg.EnableScriptChecks {
		return nil
	}
	if !fromConfig {
		return api.Errorf(http.StatusInternalServerError,
			"Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")
	}
	if !s.cfg.EnableLocalScriptChecks {
		return api.Errorf(http.StatusInternalServerError,
			"Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true")
	}
	return nil
}

// serviceDef converts a registration to what the catalog stores.
func serviceDef(reg *api.AgentServiceRegistration) *api.NodeService {
	reg = cloneJSON(reg) // a copy, with every text as the catalog stores it
	def := &api.NodeService{
		Kind: reg.Kind, ID: cmp.Or(reg.ID, reg.Name), Service: reg.Name,
		Tags: append([]string{}, reg.Tags...), Address: reg.Address, Port: reg.Port, SocketPath: reg.SocketPath,
		Meta: map[string]string{}, Weights: api.Weights{Passing: 1, Warning: 1}, EnableTagOverride: reg.EnableTagOverride,
	}
	maps.Copy(def.Meta, reg.Meta)
	if reg.Weights != nil {
		def.Weights = *reg.Weights
	}
	tagged := map[string]api.ServiceAddress{}
	if ip := net.ParseIP(reg.Address); ip != nil {
		family := "ipv6"
		if ip.To4() != nil {
			family = "ipv4"
		}
		own := api.ServiceAddress{Address: reg.Address, Port: reg.Port}
		tagged["lan_"+family], tagged["wan_"+family] = own, own
	}
	maps.Copy(tagged, reg.TaggedAddresses)
	if len(tagged) > 0 {
		def.TaggedAddresses = tagged
	}
	return def
}

// serviceChecks returns copies of a registration's checks with ids and names filled in.
// The single Check comes first, unless it is empty.
func serviceChecks(reg *api.AgentServiceRegistration, svc *api.NodeService) []*api.CheckDefinition {
	var given []*api.CheckDefinition
	if reg.Check != nil && !sameJSON(reg.Check, &api.CheckDefinition{}) {
		given = append(given, reg.Check)
	}
	given = append(given, reg.Checks...)
	out := make([]*api.CheckDefinition, 0, len(given))
	for i, g := range given {
		if g == nil {
			g = &api.CheckDefinition{} // validateCheck refuses it
		}
		d := cloneJSON(g)
		d.ID = cmp.Or(g.CheckID, g.ID)
		if d.ID == "" {
			d.ID = "service:" + svc.ID
			if len(given) > 1 {
				d.ID = fmt.Sprintf("%s:%d", d.ID, i+1)
			}
		}
		d.CheckID, d.ServiceID = "", svc.ID
		d.Name = cmp.Or(d.Name, fmt.Sprintf("Service '%s' check", svc.Service))
		out = append(out, d)
	}
	return out
}

func isAnyIP(addr string) bool {
	ip := net.ParseIP(strings.Trim(addr, "[]"))
	return ip != nil && ip.IsUnspecified()
}

func validateWeights(w *api.Weights) error {
	switch {
	case w == nil:
		return nil
	case w.Passing < 1:
		return errors.New("Passing must be greater than 0") //nolint:staticcheck // API text
	case w.Passing > 65535, w.Warning < 0, w.Warning > 65535:
		return errors.New("DNS Weight must be between 0 and 65535") //nolint:staticcheck // API text
	}
	return nil
}

func validateTagged(tagged map[string]api.ServiceAddress) error {
	for name, a := range tagged {
		ip := net.ParseIP(a.Address)
		v4 := ip != nil && ip.To4() != nil
		switch name {
		case "lan_ipv4", "wan_ipv4":
			if !v4 {
				return fmt.Errorf("Service tagged address %q must be a valid ipv4 address", name) //nolint:staticcheck // API text
			}
		case "lan_ipv6", "wan_ipv6":
			if ip == nil || v4 {
				return fmt.Errorf("Service tagged address %q must be a valid ipv6 address", name) //nolint:staticcheck // API text
			}
		}
	}
	return nil
}

// validateMeta checks a service's metadata. Its limits are those of node metadata.
func validateMeta(meta map[string]string) error {
	if len(meta) > api.MaxMetaPairs {
		return fmt.Errorf("Node metadata cannot contain more than %d key/value pairs", api.MaxMetaPairs) //nolint:staticcheck // API text
	}
	for k, v := range meta {
		var fault string
		switch {
		case k == "":
			fault = "Key cannot be blank"
		case strings.ContainsFunc(k, badMetaRune):
			fault = "Key contains invalid characters"
		case len(k) > api.MaxMetaKeyLen:
			fault = fmt.Sprintf("Key is too long (limit: %d characters)", api.MaxMetaKeyLen)
		case strings.HasPrefix(k, "consul-"):
			fault = "Key prefix 'consul-' is reserved for internal use"
		case len(v) > api.MaxMetaValueLen:
			fault = fmt.Sprintf("Value is too long (limit: %d characters)", api.MaxMetaValueLen)
		default:
			continue
		}
		return fmt.Errorf("Couldn't load metadata pair ('%s', '%s'): %s", k, v, fault) //nolint:staticcheck // API text
	}
	return nil
}

func badMetaRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// sameJSON says whether two values have the same JSON, so that nil and empty are equal
// where they encode alike.
func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// asStored returns a text as the catalog stores it. Texts are sent as JSON, which
// replaces bytes that are not UTF-8. If such bytes were kept here, the text would always
// differ from the catalog's, and every comparison would push it again.
func asStored(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// cloneJSON makes a deep copy of a value that encodes to JSON.
func cloneJSON[T any](v *T) *T {
	data, err := json.Marshal(v)
	if err == nil {
		out := new(T)
		if err = json.Unmarshal(data, out); err == nil {
			return out
		}
	}
	panic(fmt.Sprintf("copy of a %T: %v", v, err)) // these types always encode
}
