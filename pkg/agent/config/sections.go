package config

import (
	"os"
	"time"
)

// Addresses overrides client_addr for single listeners. Spaces separate several
// addresses.
type Addresses struct {
	DNS     string `conf:"dns"`
	HTTP    string `conf:"http"`
	HTTPS   string `conf:"https,unused"`
	GRPC    string `conf:"grpc,unused"`
	GRPCTLS string `conf:"grpc_tls,unused"`
}

// Ports are the port numbers; -1 is off. HTTPS is not implemented: see validateHonoured.
type Ports struct {
	DNS     int `conf:"dns"`
	HTTP    int `conf:"http"`
	HTTPS   int `conf:"https"`
	GRPC    int `conf:"grpc,unused"`
	GRPCTLS int `conf:"grpc_tls,unused"`
	SerfLAN int `conf:"serf_lan"`
	SerfWAN int `conf:"serf_wan,unused"`
	Server  int `conf:"server"`

	_ any `conf:"proxy_min_port|proxy_max_port|sidecar_min_port|sidecar_max_port|expose_min_port|expose_max_port,ignored"`
}

// Gossip is the timing of one gossip pool.
type Gossip struct {
	Nodes          int           `conf:"gossip_nodes,min=1"`
	Interval       time.Duration `conf:"gossip_interval,min=1ms"`
	ProbeInterval  time.Duration `conf:"probe_interval,min=1ms"`
	ProbeTimeout   time.Duration `conf:"probe_timeout,min=1ms"`
	SuspicionMult  int           `conf:"suspicion_mult,min=1"`
	RetransmitMult int           `conf:"retransmit_mult,min=1"`
}

// RaftLogStore has Consul's settings of the raft log store; none has an effect.
type RaftLogStore struct {
	Backend         string `conf:"backend,unused"`
	DisableLogCache bool   `conf:"disable_log_cache,unused"`
	Verification    struct {
		Enabled  bool          `conf:"enabled,unused"`
		Interval time.Duration `conf:"interval,unused"`
	} `conf:"verification"`
	BoltDB struct {
		NoFreelistSync bool `conf:"no_freelist_sync,unused"`
	} `conf:"boltdb"`
	WAL struct {
		SegmentSizeMB int `conf:"segment_size_mb,unused"`
	} `conf:"wal"`
}

// Performance is the timing of raft, of forwarded requests and of a graceful leave.
type Performance struct {
	RaftMultiplier   int           `conf:"raft_multiplier"`
	LeaderProbe      bool          `conf:"leader_probe"` // muster only: probe a silent leader's port to notice sooner that it failed
	LeaveDrainTime   time.Duration `conf:"leave_drain_time,min=0s"`
	RPCHoldTimeout   time.Duration `conf:"rpc_hold_timeout,min=0s,zero=default"`
	GRPCKeepInterval time.Duration `conf:"grpc_keepalive_interval,unused"`
	GRPCKeepTimeout  time.Duration `conf:"grpc_keepalive_timeout,unused"`
}

// Autopilot is how the leader promotes and removes servers.
type Autopilot struct {
	CleanupDeadServers      bool          `conf:"cleanup_dead_servers"`
	LastContactThreshold    time.Duration `conf:"last_contact_threshold,min=0s,zero=default"`
	MaxTrailingLogs         int           `conf:"max_trailing_logs,min=0,zero=default"`
	MinQuorum               int           `conf:"min_quorum,min=0"`
	ServerStabilizationTime time.Duration `conf:"server_stabilization_time,min=0s,zero=default"`

	_ any `conf:"disable_upgrade_migration|redundancy_zone_tag|upgrade_version_tag,ignored"`
}

// TLS has settings for each listener, and defaults for what a listener does not set. The
// server port uses InternalRPC.
type TLS struct {
	Defaults    TLSSettings `conf:"defaults"`
	InternalRPC TLSSettings `conf:"internal_rpc"`
	HTTPS       TLSSettings `conf:"https,unused"`
	GRPC        TLSSettings `conf:"grpc,unused"`
}

// TLSSettings is one set of TLS settings.
type TLSSettings struct {
	CAFile               string `conf:"ca_file"`
	CAPath               string `conf:"ca_path"`
	CertFile             string `conf:"cert_file"`
	KeyFile              string `conf:"key_file"`
	MinVersion           string `conf:"tls_min_version"`
	CipherSuites         string `conf:"tls_cipher_suites,unused"`
	VerifyIncoming       bool   `conf:"verify_incoming"`
	VerifyOutgoing       bool   `conf:"verify_outgoing"`
	VerifyServerHostname bool   `conf:"verify_server_hostname"`

	_ any `conf:"use_auto_cert,ignored"`
}

// DNS has the settings of the DNS interface.
type DNS struct {
	AllowStale                  bool                     `conf:"allow_stale,reload"`
	MaxStale                    time.Duration            `conf:"max_stale,reload,min=0s"`
	NodeTTL                     time.Duration            `conf:"node_ttl,reload,min=0s"`
	ServiceTTL                  map[string]time.Duration `conf:"service_ttl,reload"` // by service name or "prefix*"
	EnableTruncate              bool                     `conf:"enable_truncate,reload"`
	OnlyPassing                 bool                     `conf:"only_passing,reload"`
	UDPAnswerLimit              int                      `conf:"udp_answer_limit,reload,min=0"`
	ARecordLimit                int                      `conf:"a_record_limit,reload,min=0"`
	DisableCompression          bool                     `conf:"disable_compression,reload"`
	RecursorTimeout             time.Duration            `conf:"recursor_timeout,reload,min=1ms"`
	RecursorStrategy            string                   `conf:"recursor_strategy,reload"`
	EnableAdditionalNodeMetaTXT bool                     `conf:"enable_additional_node_meta_txt,reload"`
	SOA                         SOA                      `conf:"soa,reload"`
	UseCache                    bool                     `conf:"use_cache,unused"`
	CacheMaxAge                 time.Duration            `conf:"cache_max_age,unused"`

	_ any `conf:"prefer_namespace,ignored"`
}

// SOA has the times of the start-of-authority record, in seconds.
type SOA struct {
	Refresh uint32 `conf:"refresh"`
	Retry   uint32 `conf:"retry"`
	Expire  uint32 `conf:"expire"`
	MinTTL  uint32 `conf:"min_ttl"`
}

// HTTP has the settings of the HTTP API.
type HTTP struct {
	BlockEndpoints     []string          `conf:"block_endpoints"`
	AllowWriteHTTPFrom []string          `conf:"allow_write_http_from"`
	ResponseHeaders    map[string]string `conf:"response_headers"`
	UseCache           bool              `conf:"use_cache,unused"`
	MaxHeaderBytes     int               `conf:"max_header_bytes"`
}

// Limits are limits of connections and requests.
type Limits struct {
	HTTPMaxConnsPerClient int           `conf:"http_max_conns_per_client,reload,min=0"`
	HTTPSHandshakeTimeout time.Duration `conf:"https_handshake_timeout,unused"`
	RPCHandshakeTimeout   time.Duration `conf:"rpc_handshake_timeout,zero=default"`
	RPCClientTimeout      time.Duration `conf:"rpc_client_timeout,unused"`
	RPCMaxConnsPerClient  int           `conf:"rpc_max_conns_per_client,unused"`
	RPCRate               float64       `conf:"rpc_rate,unused"`
	RPCMaxBurst           int           `conf:"rpc_max_burst,unused"`
	KVMaxValueSize        int           `conf:"kv_max_value_size,min=1"`
	TxnMaxReqLen          int           `conf:"txn_max_req_len,min=1"`
	RequestLimits         struct {
		Mode      string  `conf:"mode"`
		ReadRate  float64 `conf:"read_rate,unused"`
		WriteRate float64 `conf:"write_rate,unused"`
	} `conf:"request_limits"`
}

// AutoEncrypt would give clients certificates from the servers; it is refused.
type AutoEncrypt struct {
	TLS      bool `conf:"tls"`
	AllowTLS bool `conf:"allow_tls"`

	_ any `conf:"dns_san|ip_san,ignored"`
}

// AutoConfig would give clients their configuration from the servers; it is refused.
type AutoConfig struct {
	Enabled bool `conf:"enabled"`

	_ any `conf:"intro_token|intro_token_file|server_addresses|dns_sans|ip_sans|authorization,ignored"`
}

// UnixSockets sets owner and mode of the sockets of "unix://" listeners.
type UnixSockets struct {
	User  string `conf:"user"`
	Group string `conf:"group"`
	Mode  string `conf:"mode"` // octal
}

// ACL has the settings of access control, which is not implemented.
type ACL struct {
	Enabled                bool          `conf:"enabled"`
	DefaultPolicy          string        `conf:"default_policy"`
	DownPolicy             string        `conf:"down_policy"`
	TokenTTL               time.Duration `conf:"token_ttl"`
	PolicyTTL              time.Duration `conf:"policy_ttl"`
	RoleTTL                time.Duration `conf:"role_ttl"`
	EnableKeyListPolicy    bool          `conf:"enable_key_list_policy"`
	EnableTokenPersistence bool          `conf:"enable_token_persistence"`
	EnableTokenReplication bool          `conf:"enable_token_replication"`
	Tokens                 ACLTokens     `conf:"tokens"`

	_ any `conf:"disabled_ttl|msp_disable_bootstrap,silent"`
}

// ACLTokens are the tokens of the agent itself.
type ACLTokens struct {
	InitialManagement             string `conf:"initial_management|master"`
	Default                       string `conf:"default"`
	Agent                         string `conf:"agent"`
	AgentRecovery                 string `conf:"agent_recovery|agent_master"`
	Replication                   string `conf:"replication"`
	DNS                           string `conf:"dns"`
	ConfigFileServiceRegistration string `conf:"config_file_service_registration"`

	_ any `conf:"managed_service_provider,silent"`
}

// UI has the settings of the web interface, which is not implemented.
type UI struct {
	Enabled     bool   `conf:"enabled"`
	Dir         string `conf:"dir"`
	ContentPath string `conf:"content_path"`

	_ any `conf:"metrics_provider|metrics_provider_files|metrics_provider_options_json|metrics_proxy|dashboard_url_templates|hcp_enabled,silent"`
}

// Telemetry has the settings of metrics.
type Telemetry struct {
	DisableHostname         bool          `conf:"disable_hostname,unused"`
	StatsdAddr              string        `conf:"statsd_address,unused"`
	StatsiteAddr            string        `conf:"statsite_address,unused"`
	DogstatsdAddr           string        `conf:"dogstatsd_addr,unused"`
	DogstatsdTags           []string      `conf:"dogstatsd_tags,unused"`
	PrometheusRetentionTime time.Duration `conf:"prometheus_retention_time"`
	MetricsPrefix           string        `conf:"metrics_prefix"`
	FilterDefault           bool          `conf:"filter_default,unused"`
	PrefixFilter            []string      `conf:"prefix_filter,unused"`

	_ any `conf:"circonus_api_app|circonus_api_token|circonus_api_url|circonus_broker_id|circonus_broker_select_tag,ignored"`
	_ any `conf:"circonus_check_display_name|circonus_check_force_metric_activation|circonus_check_id|circonus_check_instance_id,ignored"`
	_ any `conf:"circonus_check_search_tag|circonus_check_tags|circonus_submission_interval|circonus_submission_url,ignored"`
	_ any `conf:"disable_compat_1.9|enable_host_metrics|retry_failed_connection|disable_per_tenancy_usage_metrics,ignored"`
}

// Watch is one entry of watches; its parameters depend on its type.
type Watch map[string]any

// FileMode parses Mode; 0 means not set.
func (u UnixSockets) FileMode() (os.FileMode, error) { return parseMode(u.Mode) }
