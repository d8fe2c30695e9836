// Package config knows every key of the agent's configuration: its name, its
// type, its default, what it may hold and whether a reload can change it. The
// keys are those of Consul, so that a configuration written for it starts a
// muster agent.
//
// [Load] merges the sources: defaults, -dev defaults, files and directories in flag
// order, -hcl fragments, flags. A later source wins. It returns one complete [Config]:
// derived defaults are filled in, address templates are evaluated, and [Config.Validate]
// has passed. An unknown key is an error that names the file and the nearest key. A key
// that Consul knows and muster does not act on is accepted, and listed in one warning.
//
// Packages of the agent do not import this one: pkg/agent fills their small
// Configs from it.
package config

import (
	"net/netip"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Config is the whole configuration of an agent. Fields with a conf tag are the
// keys that users set. Beside the options of package conf a tag may have:
//
//	reload        a reload can change the key
//	min=N         its least value
//	zero=default  0 means the default
type Config struct {
	Server          bool   `conf:"server"`
	Bootstrap       bool   `conf:"bootstrap"`
	BootstrapExpect int    `conf:"bootstrap_expect"`
	Datacenter      string `conf:"datacenter"`
	// PrimaryDatacenter is the datacenter unless set.
	PrimaryDatacenter string            `conf:"primary_datacenter"`
	DataDir           string            `conf:"data_dir"`
	NodeName          string            `conf:"node_name"`
	NodeID            string            `conf:"node_id"` // as set; see the function NodeID
	NodeMeta          map[string]string `conf:"node_meta,reload"`

	BindAddr          string            `conf:"bind_addr"`
	AdvertiseAddr     string            `conf:"advertise_addr"`
	AdvertiseAddrIPv4 string            `conf:"advertise_addr_ipv4"`
	AdvertiseAddrIPv6 string            `conf:"advertise_addr_ipv6"`
	AdvertiseAddrWAN  string            `conf:"advertise_addr_wan"`
	AdvertiseWANIPv4  string            `conf:"advertise_addr_wan_ipv4"`
	AdvertiseWANIPv6  string            `conf:"advertise_addr_wan_ipv6"`
	SerfLAN           string            `conf:"serf_lan"`
	SerfWAN           string            `conf:"serf_wan,unused"`
	ClientAddr        string            `conf:"client_addr"` // as set; Listen has the result
	Addresses         Addresses         `conf:"addresses"`
	Ports             Ports             `conf:"ports"`
	TaggedAddresses   map[string]string `conf:"tagged_addresses"`
	TranslateWANAddrs bool              `conf:"translate_wan_addrs"`
	SerfLANCIDRs      []string          `conf:"serf_lan_allowed_cidrs"`
	SerfWANCIDRs      []string          `conf:"serf_wan_allowed_cidrs,unused"`

	RetryJoin                 []string      `conf:"retry_join"`
	RetryInterval             time.Duration `conf:"retry_interval,min=1ms"`
	RetryMax                  int           `conf:"retry_max,min=0"` // 0 is no limit
	RetryJoinWAN              []string      `conf:"retry_join_wan,unused"`
	RetryIntervalWAN          time.Duration `conf:"retry_interval_wan,unused"`
	RetryMaxWAN               int           `conf:"retry_max_wan,unused"`
	RejoinAfterLeave          bool          `conf:"rejoin_after_leave"`
	LeaveOnTerminate          bool          `conf:"leave_on_terminate"`
	SkipLeaveOnInterrupt      bool          `conf:"skip_leave_on_interrupt"`
	ReconnectTimeout          time.Duration `conf:"reconnect_timeout,min=1s"`
	ReconnectTimeoutWAN       time.Duration `conf:"reconnect_timeout_wan,unused"`
	AdvertiseReconnectTimeout time.Duration `conf:"advertise_reconnect_timeout,unused"`
	ServerRejoinAgeMax        time.Duration `conf:"server_rejoin_age_max,unused"`

	Encrypt               string        `conf:"encrypt"` // base64; EncryptKey has the bytes
	EncryptVerifyIncoming bool          `conf:"encrypt_verify_incoming,unused"`
	EncryptVerifyOutgoing bool          `conf:"encrypt_verify_outgoing,unused"`
	DisableKeyringFile    bool          `conf:"disable_keyring_file,unused"`
	GossipLAN             Gossip        `conf:"gossip_lan"`
	GossipWAN             Gossip        `conf:"gossip_wan,unused"`
	Protocol              int           `conf:"protocol,unused"`
	RaftProtocol          int           `conf:"raft_protocol,unused"`
	RaftSnapshotThreshold int           `conf:"raft_snapshot_threshold,reload,min=1"`
	RaftSnapshotInterval  time.Duration `conf:"raft_snapshot_interval,reload,min=5ms"` // raft refuses less
	RaftTrailingLogs      int           `conf:"raft_trailing_logs,reload,min=1"`
	RaftLogStore          RaftLogStore  `conf:"raft_logstore"`
	Performance           Performance   `conf:"performance"`
	Autopilot             Autopilot     `conf:"autopilot"`
	TLS                   TLS           `conf:"tls"`
	AutoEncrypt           AutoEncrypt   `conf:"auto_encrypt"`
	AutoConfig            AutoConfig    `conf:"auto_config"`
	ServerName            string        `conf:"server_name,unused"`

	CheckUpdateInterval     time.Duration `conf:"check_update_interval,min=0s"`
	CheckOutputMaxSize      int           `conf:"check_output_max_size,min=1"`
	DiscardCheckOutput      bool          `conf:"discard_check_output,reload"`
	EnableScriptChecks      bool          `conf:"enable_script_checks"`
	EnableLocalScriptChecks bool          `conf:"enable_local_script_checks"`
	EnableAgentTLSForChecks bool          `conf:"enable_agent_tls_for_checks,unused"`
	DisableRemoteExec       bool          `conf:"disable_remote_exec,reload"`
	EnableRemoteExec        bool          `conf:"enable_remote_exec,reload"`
	DisableCoordinates      bool          `conf:"disable_coordinates,unused"`

	ExecAuthorizedKeys []string           `conf:"exec_authorized_keys,reload"`
	ExecJobs           map[string]ExecJob `conf:"job|jobs,reload"`

	DNS       DNS      `conf:"dns_config"`
	Domain    string   `conf:"domain"`
	AltDomain string   `conf:"alt_domain"`
	Recursors []string `conf:"recursors,reload"`

	HTTP              HTTP          `conf:"http_config"`
	Limits            Limits        `conf:"limits"`
	DefaultQueryTime  time.Duration `conf:"default_query_time,min=1ms"`
	MaxQueryTime      time.Duration `conf:"max_query_time,min=1ms"`
	DiscoveryMaxStale time.Duration `conf:"discovery_max_stale"`

	SessionTTLMin time.Duration `conf:"session_ttl_min,min=1ms"`
	// A session that is not renewed ends after its TTL times SessionTTLMultiplier.
	SessionTTLMultiplier float64 `conf:"session_ttl_multiplier"`

	LogLevel          string        `conf:"log_level,reload"`
	LogJSON           bool          `conf:"log_json"`
	LogFile           string        `conf:"log_file,unused"`
	LogRotateBytes    int           `conf:"log_rotate_bytes,unused"`
	LogRotateDuration time.Duration `conf:"log_rotate_duration,unused"`
	LogRotateMaxFiles int           `conf:"log_rotate_max_files,unused"`
	EnableSyslog      bool          `conf:"enable_syslog,unused"`
	SyslogFacility    string        `conf:"syslog_facility,unused"`
	PidFile           string        `conf:"pid_file"`
	UnixSockets       UnixSockets   `conf:"unix_sockets"`
	EnableDebug       bool          `conf:"enable_debug,reload"`
	AutoReloadConfig  bool          `conf:"auto_reload_config"`

	ACL       ACL       `conf:"acl,unused"` // acl.enabled is refused: see validateHonoured
	UI        UI        `conf:"ui_config,unused"`
	Telemetry Telemetry `conf:"telemetry"`
	Watches   []Watch   `conf:"watches,reload"` // as set; package handlers knows their keys

	// The fields below are no keys. Load fills them in.

	Dev        bool // -dev: one server, in memory
	Services   []*api.AgentServiceRegistration
	Checks     []*api.CheckDefinition
	EncryptKey []byte
	Bind       netip.Addr // of raft and gossip; the server port binds here too
	SerfBind   netip.Addr
	Advertise  netip.Addr
	Listen     Listen

	notes []string // warnings found on the way
}

// Listen has the addresses of the HTTP and DNS listeners: "host:port", IPv6 hosts in
// brackets, or "unix:///path". An empty list means that the listener is off.
type Listen struct {
	HTTP []string
	DNS  []string
}
