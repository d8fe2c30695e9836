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
// a service block in configuration files. The conf tags are the spellings of files
// (package conf), which HTTP takes too.
type AgentServiceRegistration struct {
	Kind              string                    `json:",omitempty" conf:"kind"`
	ID                string                    `json:",omitempty" conf:"id"`
	Name              string                    `json:",omitempty" conf:"name"`
	Tags              []string                  `json:",omitempty" conf:"tags"`
	Port              int                       `json:",omitempty" conf:"port"`
	Address           string                    `json:",omitempty" conf:"address"`
	SocketPath        string                    `json:",omitempty" conf:"socket_path|socketpath"`
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty" conf:"tagged_addresses|taggedaddresses"`
	EnableTagOverride bool                      `json:",omitempty" conf:"enable_tag_override|enabletagoverride"`
	Meta              map[string]string         `json:",omitempty" conf:"meta"`
	Weights           *Weights                  `json:",omitempty"`
	Token             string                    `json:",omitempty" conf:"token,unused"`
	Check             *CheckDefinition          `json:",omitempty"`
	Checks            []*CheckDefinition        `json:",omitempty"`
}

// CheckDefinition says how a check runs. It is the body of
// PUT /v1/agent/check/register (where the id field is ID) and part of a service
// registration (where it is CheckID); exactly one kind of check is set.
type CheckDefinition struct {
	ID        string `json:",omitempty"`
	CheckID   string `json:",omitempty"`
	Name      string `json:",omitempty" conf:"name"`
	Notes     string `json:",omitempty" conf:"notes"`
	ServiceID string `json:",omitempty" conf:"service_id|serviceid"`
	Status    string `json:",omitempty" conf:"status"`
	Token     string `json:",omitempty" conf:"token,unused"`

	Interval Duration `json:",omitzero" conf:"interval"`
	Timeout  Duration `json:",omitzero" conf:"timeout"`
	TTL      Duration `json:",omitzero" conf:"ttl"`

	ScriptArgs        []string            `json:",omitempty" conf:"args|script_args|scriptargs"`
	Shell             string              `json:",omitempty" conf:"shell,unused"`
	DockerContainerID string              `json:",omitempty" conf:"docker_container_id|dockercontainerid"`
	HTTP              string              `json:",omitempty" conf:"http"`
	Method            string              `json:",omitempty" conf:"method"`
	Header            map[string][]string `json:",omitempty" conf:"header"`
	Body              string              `json:",omitempty" conf:"body"`
	DisableRedirects  bool                `json:",omitempty" conf:"disable_redirects|disableredirects"`
	TLSServerName     string              `json:",omitempty" conf:"tls_server_name|tlsservername"`
	TLSSkipVerify     bool                `json:",omitempty" conf:"tls_skip_verify|tlsskipverify"`
	TCP               string              `json:",omitempty" conf:"tcp"`
	TCPUseTLS         bool                `json:",omitempty" conf:"tcp_use_tls|tcpusetls"`
	UDP               string              `json:",omitempty" conf:"udp"`
	GRPC              string              `json:",omitempty" conf:"grpc"`
	GRPCUseTLS        bool                `json:",omitempty" conf:"grpc_use_tls|grpcusetls,unused"`
	H2PING            string              `json:",omitempty" conf:"h2ping"`
	H2PingUseTLS      *bool               `json:",omitempty" conf:"h2ping_use_tls|h2pingusetls,unused"`
	OSService         string              `json:",omitempty" conf:"os_service|osservice"`
	AliasNode         string              `json:",omitempty" conf:"alias_node|aliasnode"`
	AliasService      string              `json:",omitempty" conf:"alias_service|aliasservice"`

	SuccessBeforePassing           int      `json:",omitempty" conf:"success_before_passing|successbeforepassing"`
	FailuresBeforeWarning          int      `json:",omitempty" conf:"failures_before_warning|failuresbeforewarning"`
	FailuresBeforeCritical         int      `json:",omitempty" conf:"failures_before_critical|failuresbeforecritical"`
	DeregisterCriticalServiceAfter Duration `json:",omitzero" conf:"deregister_critical_service_after|deregistercriticalserviceafter"`
	OutputMaxSize                  int      `json:",omitempty" conf:"output_max_size|outputmaxsize"`
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
