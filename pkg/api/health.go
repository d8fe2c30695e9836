package api

import (
	"encoding/json"
	"strings"
)

// Check states. The catalog may contain other strings; agents use these only.
const (
	HealthPassing  = "passing"
	HealthWarning  = "warning"
	HealthCritical = "critical"
	// HealthMaintenance exists only as an aggregated status.
	HealthMaintenance = "maintenance"
)

// Check ids with a special meaning.
const (
	SerfHealthID     = "serfHealth"
	SerfHealthName   = "Serf Health Status"
	SerfAliveOutput  = "Agent alive and reachable"
	SerfFailedOutput = "Agent not live or unreachable"

	NodeMaintenanceID        = "_node_maintenance"
	ServiceMaintenancePrefix = "_service_maintenance:"
)

// HealthCheck is one check of the catalog. Interval and Timeout are kept as the
// strings that were registered.
type HealthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	Definition  HealthCheckDefinition
	CreateIndex uint64
	ModifyIndex uint64
}

// HealthCheckDefinition is what a catalog registration may say of how a check
// runs. Checks registered through an agent leave it empty.
type HealthCheckDefinition struct {
	HTTP                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	H2PingUseTLS                   bool                `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	ScriptArgs                     []string            `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	TTL                            Duration            `json:",omitzero"`
	OutputMaxSize                  int                 `json:",omitempty"`
	Interval                       Duration            `json:",omitzero"`
	Timeout                        Duration            `json:",omitzero"`
	DeregisterCriticalServiceAfter Duration            `json:",omitzero"`
}

// UnmarshalJSON ignores keys that it does not know, as the reference does here alone:
// clients send what their own version has.
func (d *HealthCheckDefinition) UnmarshalJSON(data []byte) error {
	type plain HealthCheckDefinition
	return json.Unmarshal(data, (*plain)(d))
}

// CheckServiceNode is a service instance with its node and every check that
// decides on its health (/v1/health/service/:name).
type CheckServiceNode struct {
	Node    *Node
	Service *NodeService
	Checks  []*HealthCheck
}

// AggregatedStatus is the worst status of a group of checks, in the order
// maintenance, critical, warning, passing. No checks are passing.
func AggregatedStatus(checks []*HealthCheck) string {
	status := HealthPassing
	for _, c := range checks {
		switch {
		case c.CheckID == NodeMaintenanceID || strings.HasPrefix(c.CheckID, ServiceMaintenancePrefix):
			return HealthMaintenance
		case c.Status == HealthPassing:
		case c.Status == HealthWarning:
			if status == HealthPassing {
				status = HealthWarning
			}
		default:
			status = HealthCritical
		}
	}
	return status
}
