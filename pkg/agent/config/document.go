package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/conf"
)

// document has every key that a file may have: the keys of Config, service and check
// definitions, deprecated keys, and the keys of features that muster does not have.
type document struct {
	Config `conf:",squash"`

	Services []serviceDef `conf:"services"`
	Checks   []checkDef   `conf:"checks"`

	// Deprecated keys and second spellings: migrateKeys replaces them.
	Service                []serviceDef  `conf:"service"`
	Check                  []checkDef    `conf:"check"`
	StartJoin              []string      `conf:"start_join"`
	StartJoinWAN           []string      `conf:"start_join_wan,unused"`
	CAFile                 string        `conf:"ca_file"`
	CAPath                 string        `conf:"ca_path"`
	CertFile               string        `conf:"cert_file"`
	KeyFile                string        `conf:"key_file"`
	TLSMinVersion          string        `conf:"tls_min_version"`
	TLSCipherSuites        string        `conf:"tls_cipher_suites,unused"`
	VerifyIncoming         bool          `conf:"verify_incoming"`
	VerifyIncomingRPC      bool          `conf:"verify_incoming_rpc"`
	VerifyIncomingHTTPS    bool          `conf:"verify_incoming_https,unused"`
	VerifyOutgoing         bool          `conf:"verify_outgoing"`
	VerifyServerHostname   bool          `conf:"verify_server_hostname"`
	ACLDatacenter          string        `conf:"acl_datacenter,unused"`
	ACLDefaultPolicy       string        `conf:"acl_default_policy,unused"`
	ACLDownPolicy          string        `conf:"acl_down_policy,unused"`
	ACLTTL                 time.Duration `conf:"acl_ttl,unused"`
	ACLToken               string        `conf:"acl_token,unused"`
	ACLAgentToken          string        `conf:"acl_agent_token,unused"`
	ACLMasterToken         string        `conf:"acl_master_token,unused"`
	ACLAgentMasterToken    string        `conf:"acl_agent_master_token,unused"`
	ACLReplicationToken    string        `conf:"acl_replication_token,unused"`
	ACLEnableKeyListPolicy bool          `conf:"acl_enable_key_list_policy,unused"`
	EnableACLReplication   bool          `conf:"enable_acl_replication,unused"`
	UIEnabled              bool          `conf:"ui,unused"`
	UIDir                  string        `conf:"ui_dir,unused"`
	UIContentPath          string        `conf:"ui_content_path,unused"`

	// Features that muster does not have.
	_ any `conf:"connect|peering|config_entries|xds|cloud|node_locality|locality,ignored"`
	_ any `conf:"segment|segments|partition|audit|license_path|reporting|read_replica|non_voting_server|primary_gateways,ignored"`
	_ any `conf:"primary_gateway|primary_gateways_interval|cache|rpc|default_intention_policy,ignored"`
	_ any `conf:"tls_prefer_server_cipher_suites|enable_central_service_config|use_streaming_backend|experiments,ignored"`
	_ any `conf:"ae_interval|check_reap_interval|check_deregister_interval_min|sync_coordinate_rate_target,ignored"`
	_ any `conf:"sync_coordinate_interval_min|acl_disabled_ttl,ignored"`
	// Labels of the file, which set nothing, and settings that muster has no need of: it
	// never checks for updates, and node ids are random.
	_ any `conf:"version|version_prerelease|version_metadata|revision|build_date|disable_update_check,silent"`
	_ any `conf:"disable_anonymous_signature|disable_host_node_id,silent"`
}

// move maps a deprecated key, or a second spelling, to the key that replaces it.
type move struct {
	from, to string
	quiet    bool // a second spelling, not a deprecated one
}

func moves() []move {
	return []move{
		{"service", "services", true},
		{"check", "checks", true},
		{"start_join", "retry_join", false},
		{"start_join_wan", "retry_join_wan", false},
		{"ca_file", "tls.defaults.ca_file", false},
		{"ca_path", "tls.defaults.ca_path", false},
		{"cert_file", "tls.defaults.cert_file", false},
		{"key_file", "tls.defaults.key_file", false},
		{"tls_min_version", "tls.defaults.tls_min_version", false},
		{"tls_cipher_suites", "tls.defaults.tls_cipher_suites", false},
		{"verify_incoming", "tls.defaults.verify_incoming", false},
		{"verify_incoming_rpc", "tls.internal_rpc.verify_incoming", false},
		{"verify_incoming_https", "tls.https.verify_incoming", false},
		{"verify_outgoing", "tls.defaults.verify_outgoing", false},
		{"verify_server_hostname", "tls.internal_rpc.verify_server_hostname", false},
		{"acl_datacenter", "primary_datacenter", false},
		{"acl_default_policy", "acl.default_policy", false},
		{"acl_down_policy", "acl.down_policy", false},
		{"acl_ttl", "acl.token_ttl", false},
		{"acl_token", "acl.tokens.default", false},
		{"acl_agent_token", "acl.tokens.agent", false},
		{"acl_master_token", "acl.tokens.initial_management", false},
		{"acl_agent_master_token", "acl.tokens.agent_recovery", false},
		{"acl_replication_token", "acl.tokens.replication", false},
		{"acl_enable_key_list_policy", "acl.enable_key_list_policy", false},
		{"enable_acl_replication", "acl.enable_token_replication", false},
		{"ui", "ui_config.enabled", false},
		{"ui_dir", "ui_config.dir", false},
		{"ui_content_path", "ui_config.content_path", false},
	}
}

// migrateKeys returns a copy of m in which new keys replace the old ones, and a note for
// each deprecated key. If a file has both keys, the new one wins; lists are appended.
func migrateKeys(m map[string]any) (map[string]any, []string) {
	moved, kept := make(map[string]any), conf.Merge(nil, m)
	var notes []string
	for _, mv := range moves() {
		v, ok := kept[mv.from]
		if !ok {
			continue
		}
		delete(kept, mv.from)
		if mv.from == "acl_datacenter" {
			moved = conf.Merge(moved, map[string]any{"acl": map[string]any{"enabled": true}})
		}
		moved = conf.Merge(moved, nest(mv.to, v))
		if !mv.quiet {
			notes = append(notes, fmt.Sprintf("%s (use %s)", mv.from, mv.to))
		}
	}
	return conf.Merge(moved, kept), notes
}

func nest(path string, v any) map[string]any {
	parts := strings.Split(path, ".")
	for _, part := range slices.Backward(parts) {
		v = map[string]any{part: v}
	}
	return v.(map[string]any)
}
