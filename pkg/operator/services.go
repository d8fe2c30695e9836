package operator

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// ServiceFlags are the flags that describe a service.
type ServiceFlags struct {
	ID, Name, Kind  string
	Address, Socket string
	Port            int
	Tags            []string
	Meta            []string // k=v
	TaggedAddresses []string // k=address or k=address:port
}

// Registration is the service that the flags describe.
func (f ServiceFlags) Registration() (*api.AgentServiceRegistration, error) {
	if f.Port < 0 || f.Port > 65535 {
		return nil, refused("Error! Invalid -port %d: must be between 0 and 65535", f.Port)
	}
	reg := &api.AgentServiceRegistration{
		ID: f.ID, Name: f.Name, Kind: f.Kind, Address: f.Address, SocketPath: f.Socket, Port: f.Port, Tags: f.Tags,
	}
	meta, err := Pairs("meta", f.Meta)
	if err != nil {
		return nil, err
	}
	reg.Meta = meta
	tagged, err := Pairs("tagged-address", f.TaggedAddresses)
	if err != nil {
		return nil, err
	}
	for name, addr := range tagged {
		if reg.TaggedAddresses == nil {
			reg.TaggedAddresses = map[string]api.ServiceAddress{}
		}
		if reg.TaggedAddresses[name], err = serviceAddress(addr); err != nil {
			return nil, failed(err, "Error! Invalid -tagged-address %s=%s", name, addr)
		}
	}
	return reg, nil
}

// Pairs reads the k=v values of a flag.
func Pairs(flag string, values []string) (map[string]string, error) {
	var out map[string]string
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return nil, refused("Error! Invalid value %q for flag -%s: it is not key=value", v, flag)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

// serviceAddress reads a host with or without a port; an IPv6 address with one
// is in brackets.
func serviceAddress(s string) (api.ServiceAddress, error) {
	if _, err := netip.ParseAddr(s); err == nil || !strings.Contains(s, ":") {
		return api.ServiceAddress{Address: s}, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return api.ServiceAddress{}, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return api.ServiceAddress{}, fmt.Errorf("port %q is not a number up to 65535", text)
	}
	return api.ServiceAddress{Address: host, Port: int(port)}, nil
}

// RegisterServices registers services at the agent, until one fails.
func RegisterServices(ctx context.Context, c *client.Client, out io.Writer, services []*api.AgentServiceRegistration) error {
	for _, s := range services {
		if err := c.ServiceRegister(ctx, s); err != nil {
			return failed(err, "Error registering service %q", s.Name)
		}
		fmt.Fprintf(out, "Registered service: %s\n", s.Name)
	}
	return nil
}

// DeregisterServices removes services from the agent, until one fails. A
// service without an id has its name for one.
func DeregisterServices(ctx context.Context, c *client.Client, out io.Writer, services []*api.AgentServiceRegistration) error {
	for _, s := range services {
		id := cmp.Or(s.ID, s.Name)
		if err := c.ServiceDeregister(ctx, id); err != nil {
			return failed(err, "Error deregistering service %q", s.Name)
		}
		fmt.Fprintf(out, "Deregistered service: %s\n", id)
	}
	return nil
}
