package api

// AgentService is a service instance at its own agent.
type AgentService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                    `json:",omitempty"`
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Weights           Weights
	EnableTagOverride bool
	CreateIndex       uint64 `json:",omitempty"`
	ModifyIndex       uint64 `json:",omitempty"`
	ContentHash       string `json:",omitempty"`
	Datacenter        string
}

// AgentServiceRegistration is the body of PUT /v1/agent/service/register and of
// a service block in configuration files. Snake-case aliases are accepted by the
// decoder (see package httpapi).
type AgentServiceRegistration struct {
	Kind              string                    `json:",omitempty"`
	ID                string                    `json:",omitempty"`
	Name              string                    `json:",omitempty"`
	Tags              []string                  `json:",omitempty"`
	Port              int                       `json:",omitempty"`
	Address           string                    `json:",omitempty"`
	SocketPath        string                    `json:",omitempty"`
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	EnableTagOverride bool                      `json:",omitempty"`
	Meta              map[string]string         `json:",omitempty"`
	Weights           *Weights                  `json:",omitempty"`
	Token             string                    `json:",omitempty"`
	Check             *CheckDefinition          `json:",omitempty"`
	Checks            []*CheckDefinition        `json:",omitempty"`
}

// CheckDefinition says how a check runs. It is the body of
// PUT /v1/agent/check/register (where the id field is ID) and part of a service
// registration (where it is CheckID); exactly one kind of check is set.
type CheckDefinition struct {
	ID        string `json:",omitempty"`
	CheckID   string `json:",omitempty"`
	Name      string `json:",omitempty"`
	Notes     string `json:",omitempty"`
	ServiceID string `json:",omitempty"`
	Status    string `json:",omitempty"`
	Token     string `json:",omitempty"`

	Interval Duration `json:",omitzero"`
	Timeout  Duration `json:",omitzero"`
	TTL      Duration `json:",omitzero"`

	ScriptArgs        []string            `json:",omitempty"`
	Shell             string              `json:",omitempty"`
	DockerContainerID string              `json:",omitempty"`
	HTTP              string              `json:",omitempty"`
	Method            string              `json:",omitempty"`
	Header            map[string][]string `json:",omitempty"`
	Body              string              `json:",omitempty"`
	DisableRedirects  bool                `json:",omitempty"`
	TLSServerName     string              `json:",omitempty"`
	TLSSkipVerify     bool                `json:",omitempty"`
	TCP               string              `json:",omitempty"`
	TCPUseTLS         bool                `json:",omitempty"`
	UDP               string              `json:",omitempty"`
	GRPC              string              `json:",omitempty"`
	GRPCUseTLS        bool                `json:",omitempty"`
	H2PING            string              `json:",omitempty"`
	H2PingUseTLS      *bool               `json:",omitempty"`
	OSService         string              `json:",omitempty"`
	AliasNode         string              `json:",omitempty"`
	AliasService      string              `json:",omitempty"`

	SuccessBeforePassing           int      `json:",omitempty"`
	FailuresBeforeWarning          int      `json:",omitempty"`
	FailuresBeforeCritical         int      `json:",omitempty"`
	DeregisterCriticalServiceAfter Duration `json:",omitzero"`
	OutputMaxSize                  int      `json:",omitempty"`
}

// AgentServiceHealth is one entry of /v1/agent/health/service/*.
type AgentServiceHealth struct {
	AggregatedStatus string
	Service          *AgentService
	Checks           []*HealthCheck
}

// Member states, as in serf.
const (
	MemberNone = iota
	MemberAlive
	MemberLeaving
	MemberLeft
	MemberFailed
)

// Member is one member of a gossip pool (/v1/agent/members).
type Member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

// AgentVersion is the answer of /v1/agent/version.
type AgentVersion struct {
	SHA          string
	BuildDate    string
	HumanVersion string
	FIPS         string
}

// RaftServer is one server of the raft configuration.
type RaftServer struct {
	ID              string
	Node            string
	Address         string
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// RaftConfiguration is the answer of /v1/operator/raft/configuration.
type RaftConfiguration struct {
	Servers []*RaftServer
	Index   uint64
}
