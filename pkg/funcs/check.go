package funcs

import (
	"encoding/json"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// HealthChecks are the checks of an instance: those of its node and its own.
type HealthChecks []HealthCheck

// AggregatedStatus is the worst status of the checks, "maintenance" in maintenance mode,
// "passing" without checks.
func (c HealthChecks) AggregatedStatus() string {
	all := make([]*api.HealthCheck, len(c))
	for i := range c {
		all[i] = c[i].HealthCheck
	}
	return api.AggregatedStatus(all)
}

// HealthCheck is one check. A template sees the fields of the API and, as if they were
// fields, the methods; encoded it has the form that consul-template gives it.
type HealthCheck struct{ *api.HealthCheck }

// healthChecks share what they point to: a template cannot modify it.
func healthChecks(checks []*api.HealthCheck) HealthChecks {
	out := make(HealthChecks, 0, len(checks))
	for _, c := range checks {
		if c != nil {
			out = append(out, HealthCheck{c})
		}
	}
	return out
}

// Namespace is empty: there is one.
func (HealthCheck) Namespace() string { return "" }

// Partition is empty: there is one.
func (HealthCheck) Partition() string { return "" }

// PeerName is empty: no check is another cluster's.
func (HealthCheck) PeerName() string { return "" }

// Definition is how the check runs, as registered in the catalog.
func (c HealthCheck) Definition() CheckDefinition { return CheckDefinition{c.HealthCheck.Definition} }

// CheckDefinition has the durations by a second name each, as consul-template.
type CheckDefinition struct{ api.HealthCheckDefinition }

// IntervalDuration is Interval.
func (d CheckDefinition) IntervalDuration() time.Duration { return time.Duration(d.Interval) }

// TimeoutDuration is Timeout.
func (d CheckDefinition) TimeoutDuration() time.Duration { return time.Duration(d.Timeout) }

// DeregisterCriticalServiceAfterDuration is DeregisterCriticalServiceAfter.
func (d CheckDefinition) DeregisterCriticalServiceAfterDuration() time.Duration {
	return time.Duration(d.DeregisterCriticalServiceAfter)
}

// encodedCheck is a check as the encoders write it. What only toYAML shows is that way in
// consul-template, whose YAML goes by fields and whose JSON by methods.
type encodedCheck struct {
	Node, CheckID, Name, Status, Notes, Output, ServiceID, ServiceName string

	ServiceTags []string
	Type        string
	Namespace   string `json:"-" toml:"-"`
	Partition   string `json:"-" toml:"-"`
	ExposedPort int
	PeerName    string `json:"-" toml:"-"`
	Definition  encodedDefinition
	CreateIndex uint64
	ModifyIndex uint64
}

type encodedDefinition struct {
	Interval                       string `yaml:"-"`
	Timeout                        string `yaml:"-"`
	DeregisterCriticalServiceAfter string `yaml:"-"`

	HTTP          string
	Header        map[string][]string
	Method        string
	Body          string
	TLSServerName string
	TLSSkipVerify bool
	TCP           string
	TCPUseTLS     bool
	UDP           string
	GRPC          string
	OSService     string
	GRPCUseTLS    bool

	IntervalDuration                       time.Duration `json:"-" toml:"-"`
	TimeoutDuration                        time.Duration `json:"-" toml:"-"`
	DeregisterCriticalServiceAfterDuration time.Duration `json:"-" toml:"-"`
	SessionName                            string        `json:"-" toml:"-"`

	IntervalNanoseconds   int64 `json:"-" toml:"-" yaml:"interval"`
	TimeoutNanoseconds    int64 `json:"-" toml:"-" yaml:"timeout"`
	DeregisterNanoseconds int64 `json:"-" toml:"-" yaml:"deregistercriticalserviceafter"`
}

func (c HealthCheck) encoded() any {
	return encodedCheck{
		Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, Notes: c.Notes, Output: c.Output,
		ServiceID: c.ServiceID, ServiceName: c.ServiceName, ServiceTags: c.ServiceTags, Type: c.Type, ExposedPort: c.ExposedPort,
		Definition:  c.Definition().encoded(),
		CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex,
	}
}

func (d CheckDefinition) encoded() encodedDefinition {
	interval, timeout, after := d.IntervalDuration(), d.TimeoutDuration(), d.DeregisterCriticalServiceAfterDuration()
	return encodedDefinition{
		Interval: interval.String(), Timeout: timeout.String(), DeregisterCriticalServiceAfter: after.String(),
		HTTP: d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
		TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, OSService: d.OSService, GRPCUseTLS: d.GRPCUseTLS,
		IntervalDuration: interval, TimeoutDuration: timeout, DeregisterCriticalServiceAfterDuration: after,
		IntervalNanoseconds: int64(interval), TimeoutNanoseconds: int64(timeout), DeregisterNanoseconds: int64(after),
	}
}

// MarshalJSON implements json.Marshaler.
func (c HealthCheck) MarshalJSON() ([]byte, error) { return json.Marshal(c.encoded()) }

// MarshalYAML implements yaml.Marshaler.
func (c HealthCheck) MarshalYAML() (any, error) { return c.encoded(), nil }
