package state

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// Errors whose texts clients match on.
var (
	errNoNode        = errors.New("Must provide node")
	errNoAddress     = errors.New("Must provide address if SkipNodeUpdate is not set")
	errNoServiceName = errors.New("Must provide service name (Service.Service) when service ID is provided")
	errBadAddress    = errors.New("Invalid service address")
	errMissingNode   = errors.New("Missing node registration")
	errNoCheckName   = errors.New("Must provide check name or check ID")
)

// register runs Register. Nothing is written before everything is checked.
func (x *tx) register(c *Register) error {
	if err := x.checkRegister(c); err != nil {
		return err
	}
	n := x.node(c.Node.Node)
	if n == nil || !c.SkipNodeUpdate {
		n = x.putNode(c.Node)
	}
	if c.Service != nil {
		x.putInstance(n, c.Service)
	}
	for _, check := range c.Checks {
		if check == nil {
			continue
		}
		var svc *api.NodeService
		if check.ServiceID != "" {
			svc = x.instance(n.Node, check.ServiceID).Service
		}
		x.putCheck(n, svc, check)
	}
	return nil
}

func (x *tx) checkRegister(c *Register) error {
	if c.Node == nil || c.Node.Node == "" {
		return errNoNode
	}
	if c.Node.Address == "" && !c.SkipNodeUpdate {
		return errNoAddress
	}
	if c.Node.ID != "" {
		if err := checkUUID(c.Node.ID); err != nil {
			return fmt.Errorf("Bad node ID: %w", err)
		}
	}
	if !c.SkipNodeUpdate || x.node(c.Node.Node) == nil {
		if err := x.checkNode(c.Node); err != nil {
			return err
		}
	}
	if c.Service != nil {
		if err := checkService(c.Node.Node, c.Service); err != nil {
			return err
		}
	}
	for _, check := range c.Checks {
		if check == nil {
			continue
		}
		if check.Node != "" && !sameName(check.Node, c.Node.Node) {
			return fmt.Errorf("Node '%s' for check '%s' doesn't match register request node '%s'", check.Node, check.CheckID, c.Node.Node)
		}
		if err := x.checkCheck(c, check); err != nil {
			return err
		}
	}
	return nil
}

// checkCheck requires an id, and a service that exists or is in the same command.
func (x *tx) checkCheck(c *Register, check *api.HealthCheck) error {
	if check.CheckID == "" && check.Name == "" {
		return errNoCheckName
	}
	if check.ServiceID == "" || c.Service != nil && c.Service.ID == check.ServiceID {
		return nil
	}
	if x.instance(c.Node.Node, check.ServiceID) == nil {
		return unknownService(check)
	}
	return nil
}

// checkService validates a service and sets its default id.
func checkService(node string, s *api.NodeService) error {
	if s.ID == "" {
		s.ID = s.Service
	}
	if s.Service == "" {
		return errNoServiceName
	}
	if ip, err := netip.ParseAddr(strings.Trim(s.Address, "[]")); err == nil && ip.IsUnspecified() {
		return errBadAddress
	}
	if err := checkMeta(s.Meta); err != nil {
		return fmt.Errorf("failed inserting service: Invalid Service Meta for node %s and serviceID %s: %w", node, s.ID, err)
	}
	return nil
}

func checkMeta(meta map[string]string) error {
	if len(meta) > api.MaxMetaPairs {
		return fmt.Errorf("Node metadata cannot contain more than %d key/value pairs", api.MaxMetaPairs)
	}
	keys := make([]string, 0, len(meta))
	for k := range meta {
		keys = append(keys, k)
	}
	slices.Sort(keys) // for the same error on every server
	for _, k := range keys {
		if why := badMeta(k, meta[k]); why != "" {
			return fmt.Errorf("Couldn't load metadata pair ('%s', '%s'): %s", k, meta[k], why)
		}
	}
	return nil
}

func badMeta(key, value string) string {
	switch {
	case key == "":
		return "Key cannot be blank"
	case strings.ContainsFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}):
		return "Key contains invalid characters"
	case len(key) > api.MaxMetaKeyLen:
		return fmt.Sprintf("Key is too long (limit: %d characters)", api.MaxMetaKeyLen)
	case strings.HasPrefix(key, "consul-"):
		return "Key prefix 'consul-' is reserved for internal use"
	case len(value) > api.MaxMetaValueLen:
		return fmt.Sprintf("Value is too long (limit: %d characters)", api.MaxMetaValueLen)
	}
	return ""
}

// deregister runs Deregister.
func (x *tx) deregister(c *Deregister) {
	n := x.node(c.Node)
	if n == nil {
		return
	}
	switch {
	case c.ServiceID != "":
		if i := x.instance(n.Node, c.ServiceID); i != nil {
			x.deleteInstance(i)
		}
	case c.CheckID != "":
		if check := x.check(n.Node, c.CheckID); check != nil {
			x.deleteCheck(check)
		}
	default:
		x.deleteNode(n, c.Left)
	}
}
