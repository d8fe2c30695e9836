package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/conf"
)

// serviceDef is a service definition as files write it. The spellings without
// underscores are those of the HTTP API, which differ in case only.
type serviceDef struct {
	ID                string                `conf:"id"`
	Name              string                `conf:"name"`
	Kind              string                `conf:"kind"`
	Tags              []string              `conf:"tags"`
	Address           string                `conf:"address"`
	Port              int                   `conf:"port"`
	SocketPath        string                `conf:"socket_path|socketpath"`
	Meta              map[string]string     `conf:"meta"`
	TaggedAddresses   map[string]addressDef `conf:"tagged_addresses|taggedaddresses"`
	Weights           *weightsDef           `conf:"weights"`
	Token             string                `conf:"token,unused"`
	EnableTagOverride bool                  `conf:"enable_tag_override|enabletagoverride"`
	Check             *checkDef             `conf:"check"`
	Checks            []checkDef            `conf:"checks"`

	_ any `conf:"connect|proxy|locality|namespace|partition|ports,ignored"`
}

type addressDef struct {
	Address string `conf:"address"`
	Port    int    `conf:"port"`
}

type weightsDef struct {
	Passing *int `conf:"passing"`
	Warning *int `conf:"warning"`
}

// checkDef is a check definition as files write it.
type checkDef struct {
	ID        string `conf:"id|check_id|checkid"`
	Name      string `conf:"name"`
	Notes     string `conf:"notes"`
	ServiceID string `conf:"service_id|serviceid"`
	Status    string `conf:"status"`
	Token     string `conf:"token,unused"`

	Interval time.Duration `conf:"interval"`
	Timeout  time.Duration `conf:"timeout"`
	TTL      time.Duration `conf:"ttl"`

	ScriptArgs        []string            `conf:"args|script_args|scriptargs"`
	Shell             string              `conf:"shell,unused"`
	DockerContainerID string              `conf:"docker_container_id|dockercontainerid"`
	HTTP              string              `conf:"http"`
	Method            string              `conf:"method"`
	Header            map[string][]string `conf:"header"`
	Body              string              `conf:"body"`
	DisableRedirects  bool                `conf:"disable_redirects|disableredirects"`
	TLSServerName     string              `conf:"tls_server_name|tlsservername"`
	TLSSkipVerify     bool                `conf:"tls_skip_verify|tlsskipverify"`
	TCP               string              `conf:"tcp"`
	TCPUseTLS         bool                `conf:"tcp_use_tls|tcpusetls"`
	UDP               string              `conf:"udp"`
	GRPC              string              `conf:"grpc"`
	GRPCUseTLS        bool                `conf:"grpc_use_tls|grpcusetls,unused"` // beside grpc, which is refused
	H2PING            string              `conf:"h2ping"`
	H2PingUseTLS      *bool               `conf:"h2ping_use_tls|h2pingusetls,unused"` // likewise
	OSService         string              `conf:"os_service|osservice"`
	AliasNode         string              `conf:"alias_node|aliasnode"`
	AliasService      string              `conf:"alias_service|aliasservice"`

	SuccessBeforePassing           int           `conf:"success_before_passing|successbeforepassing"`
	FailuresBeforeWarning          int           `conf:"failures_before_warning|failuresbeforewarning"`
	FailuresBeforeCritical         int           `conf:"failures_before_critical|failuresbeforecritical"`
	DeregisterCriticalServiceAfter time.Duration `conf:"deregister_critical_service_after|deregistercriticalserviceafter"`
	OutputMaxSize                  int           `conf:"output_max_size|outputmaxsize"`

	_ any `conf:"namespace|partition,ignored"`
}

// ReadServices reads the service definitions of files, and of the files of
// directories, as Load would, but needs nothing else to be right. The warnings
// are those of Load.
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

// definitions turns what the files say into what the HTTP API would register.
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
	reg := &api.AgentServiceRegistration{
		Kind: d.Kind, ID: d.ID, Name: d.Name, Tags: d.Tags, Port: d.Port, Address: d.Address,
		SocketPath: d.SocketPath, EnableTagOverride: d.EnableTagOverride, Meta: d.Meta, Token: d.Token,
	}
	for name, address := range d.TaggedAddresses {
		if reg.TaggedAddresses == nil {
			reg.TaggedAddresses = make(map[string]api.ServiceAddress)
		}
		reg.TaggedAddresses[name] = api.ServiceAddress{Address: address.Address, Port: address.Port}
	}
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
	return reg
}

// inService names the id as the API does inside a service.
func (d *checkDef) inService() *api.CheckDefinition {
	check := d.definition()
	check.ID, check.CheckID = "", check.ID
	return check
}

func (d *checkDef) definition() *api.CheckDefinition {
	return &api.CheckDefinition{
		ID: d.ID, Name: d.Name, Notes: d.Notes, ServiceID: d.ServiceID, Status: d.Status, Token: d.Token,
		Interval: api.Duration(d.Interval), Timeout: api.Duration(d.Timeout), TTL: api.Duration(d.TTL),
		ScriptArgs: d.ScriptArgs, Shell: d.Shell, DockerContainerID: d.DockerContainerID,
		HTTP: d.HTTP, Method: d.Method, Header: d.Header, Body: d.Body, DisableRedirects: d.DisableRedirects,
		TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
		TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS,
		H2PING: d.H2PING, H2PingUseTLS: d.H2PingUseTLS, OSService: d.OSService,
		AliasNode: d.AliasNode, AliasService: d.AliasService,
		SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeWarning: d.FailuresBeforeWarning,
		FailuresBeforeCritical:         d.FailuresBeforeCritical,
		DeregisterCriticalServiceAfter: api.Duration(d.DeregisterCriticalServiceAfter), OutputMaxSize: d.OutputMaxSize,
	}
}
