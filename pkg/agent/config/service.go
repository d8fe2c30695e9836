package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/conf"
)

// serviceDef is a service definition of a configuration file.
type serviceDef struct {
	api.AgentServiceRegistration `conf:",squash"`

	Weights *weightsDef `conf:"weights"`
	Check   *checkDef   `conf:"check"`
	Checks  []checkDef  `conf:"checks"`

	_ any `conf:"connect|proxy|locality|namespace|partition|ports,ignored"`
}

// weightsDef distinguishes a weight that is not set, which is 1, from one that is 0.
type weightsDef struct {
	Passing *int `conf:"passing"`
	Warning *int `conf:"warning"`
}

// checkDef is a check definition of a configuration file.
type checkDef struct {
	api.CheckDefinition `conf:",squash"`

	ID string `conf:"id|check_id|checkid"`

	_ any `conf:"namespace|partition,ignored"`
}

// ReadServices reads the service definitions of files and directories as Load does, but
// does not validate other keys. The warnings are those of Load.
func ReadServices(paths []string) ([]*api.AgentServiceRegistration, []string, error) {
	var in sources
	if err := in.read(Sources{Paths: paths}); err != nil {
		return nil, nil, err
	}
	var doc document
	if err := conf.Decode(in.merged, &doc); err != nil {
		return nil, nil, fmt.Errorf("failed to read services: %w", err)
	}
	var out []*api.AgentServiceRegistration
	for i := range doc.Services {
		out = append(out, doc.Services[i].registration())
	}
	return out, in.warnings(), nil
}

// definitions converts the definitions of files to registrations of the HTTP API.
func (c *Config) definitions(doc *document) error {
	for i, def := range doc.Services {
		if def.Name == "" {
			return fmt.Errorf("services[%d]: the service has no name", i)
		}
		reg := def.registration()
		if addr, err := netip.ParseAddr(strings.Trim(reg.Address, "[]")); err == nil && addr.IsUnspecified() {
			c.notes = append(c.notes, fmt.Sprintf("service %q: others cannot reach the address %s: it is registered with that of the node", def.Name, reg.Address))
			reg.Address = ""
		}
		c.Services = append(c.Services, reg)
	}
	for i, def := range doc.Checks {
		if def.Name == "" && def.ID == "" {
			return fmt.Errorf("checks[%d]: the check has neither a name nor an id", i)
		}
		check := def.definition()
		if check.Name == "" {
			check.Name = check.ID
		}
		c.Checks = append(c.Checks, check)
	}
	return nil
}

func (d *serviceDef) registration() *api.AgentServiceRegistration {
	reg := d.AgentServiceRegistration
	if d.Weights != nil {
		reg.Weights = &api.Weights{Passing: 1, Warning: 1}
		if d.Weights.Passing != nil {
			reg.Weights.Passing = *d.Weights.Passing
		}
		if d.Weights.Warning != nil {
			reg.Weights.Warning = *d.Weights.Warning
		}
	}
	if d.Check != nil {
		reg.Check = d.Check.inService()
	}
	for i := range d.Checks {
		reg.Checks = append(reg.Checks, d.Checks[i].inService())
	}
	return &reg
}

// inService is a check of a service; there the API names its id CheckID.
func (d *checkDef) inService() *api.CheckDefinition {
	check := d.CheckDefinition
	check.CheckID = d.ID
	return &check
}

func (d *checkDef) definition() *api.CheckDefinition {
	check := d.CheckDefinition
	check.ID = d.ID
	return &check
}
