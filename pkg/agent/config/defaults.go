package config

import (
	"fmt"
	"os"
	"slices"

	"github.com/muster-dev/muster/pkg/conf"
)

// defaults returns the default of every key, in the form of a configuration file.
// Defaults that depend on other settings are in derive.
func defaults() map[string]any {
	return map[string]any{
		"datacenter":  "dc1",
		"bind_addr":   "0.0.0.0",
		"client_addr": "127.0.0.1",
		"domain":      "consul.",
		"ports": map[string]any{
			"dns": 8600, "http": 8500, "https": -1, "grpc": -1, "grpc_tls": -1,
			"serf_lan": 8301, "serf_wan": 8302, "server": 8300,
		},

		"retry_interval": "30s", "retry_interval_wan": "30s",
		"reconnect_timeout": "72h", "reconnect_timeout_wan": "72h", "server_rejoin_age_max": "168h",
		"encrypt_verify_incoming": true, "encrypt_verify_outgoing": true,
		// A dead member is usually found within 2.5 s, in a cluster of ten within 4 s. A
		// member that pauses for 2 s is not declared dead: a probe takes 300 ms, and the
		// suspicion lasts 1.8 s. Probes are frequent because the time until the next probe
		// of a member is what varies most.
		"gossip_lan": map[string]any{
			"gossip_nodes": 3, "gossip_interval": "100ms", "probe_interval": "300ms", "probe_timeout": "150ms",
			"suspicion_mult": 6, "retransmit_mult": 8,
		},
		"gossip_wan": map[string]any{
			"gossip_nodes": 4, "gossip_interval": "500ms", "probe_interval": "5s", "probe_timeout": "3s",
			"suspicion_mult": 6, "retransmit_mult": 4,
		},
		"protocol": 2, "raft_protocol": 3,
		"raft_snapshot_threshold": 16384, "raft_snapshot_interval": "30s", "raft_trailing_logs": 10240,
		"raft_logstore": map[string]any{"backend": "default", "wal": map[string]any{"segment_size_mb": 64}},
		"performance": map[string]any{
			"raft_multiplier": 1, "leader_probe": true, "leave_drain_time": "100ms", "rpc_hold_timeout": "7s",
			"grpc_keepalive_interval": "30s", "grpc_keepalive_timeout": "20s",
		},
		"autopilot": map[string]any{
			"cleanup_dead_servers": true, "last_contact_threshold": "200ms", "max_trailing_logs": 250,
			"min_quorum": 0, "server_stabilization_time": "10s",
		},
		"tls": map[string]any{"defaults": map[string]any{"tls_min_version": "TLSv1_2"}},
		"acl": map[string]any{
			"default_policy": "allow", "down_policy": "extend-cache", "token_ttl": "30s", "policy_ttl": "30s",
		},

		"check_update_interval": "5m", "check_output_max_size": 4096, "disable_remote_exec": true,
		"dns_config": map[string]any{
			"allow_stale": true, "max_stale": "87600h", "enable_truncate": true, "udp_answer_limit": 3,
			"recursor_timeout": "2s", "recursor_strategy": "sequential", "enable_additional_node_meta_txt": true,
			"soa": map[string]any{"refresh": 3600, "retry": 600, "expire": 86400, "min_ttl": 0},
		},
		"http_config": map[string]any{"use_cache": true},
		"limits": map[string]any{
			"http_max_conns_per_client": 200, "https_handshake_timeout": "5s", "rpc_handshake_timeout": "5s",
			"rpc_client_timeout": "60s", "rpc_max_conns_per_client": 100, "rpc_rate": -1, "rpc_max_burst": 1000,
			"kv_max_value_size": 524288, "txn_max_req_len": 524288,
			"request_limits": map[string]any{"mode": "disabled", "read_rate": -1, "write_rate": -1},
		},
		"default_query_time": "300s", "max_query_time": "600s", "session_ttl_min": "10s", "session_ttl_multiplier": 1,
		"log_level": "INFO", "log_rotate_duration": "24h", "syslog_facility": "LOCAL0",
		"ui_config": map[string]any{"content_path": "/ui/"},
		"telemetry": map[string]any{"metrics_prefix": "consul", "filter_default": true},
	}
}

// devDefaults are the defaults that -dev changes: one server without a data directory
// that is ready at once.
func devDefaults() map[string]any {
	return map[string]any{
		"server": true, "bootstrap": true, "bind_addr": "127.0.0.1",
		"log_level": "DEBUG", "enable_debug": true, "disable_keyring_file": true,
		"gossip_lan": map[string]any{
			"gossip_interval": "100ms", "probe_interval": "100ms", "probe_timeout": "100ms", "suspicion_mult": 3,
		},
		"gossip_wan": map[string]any{
			"gossip_interval": "100ms", "probe_interval": "100ms", "probe_timeout": "100ms", "suspicion_mult": 3,
		},
	}
}

// derive adds the defaults that depend on other settings. It works on the merged map,
// because only there "not set" differs from "set to false".
func derive(m map[string]any) map[string]any {
	server, _ := m["server"].(bool)
	derived := map[string]any{
		"leave_on_terminate":         !server,
		"skip_leave_on_interrupt":    server,
		"enable_local_script_checks": m["enable_script_checks"],
		"primary_datacenter":         m["datacenter"],
		"serf_lan":                   m["bind_addr"],
		"serf_wan":                   m["bind_addr"],
	}
	if name, err := os.Hostname(); err == nil {
		derived["node_name"] = name
	} // if the host has no name, Validate asks for node_name
	return conf.Merge(derived, m)
}

// zeroIsDefault gives every key marked "zero=default" its default where it is 0.
func (c *Config) zeroIsDefault() error {
	var usual document
	if err := conf.Decode(defaults(), &usual); err != nil {
		return fmt.Errorf("read the defaults: %w", err)
	}
	values := conf.Walk(&usual.Config)
	for i, p := range conf.Walk(c) {
		if p.Value.IsZero() && slices.Contains(p.Options, "zero=default") {
			p.Value.Set(values[i].Value)
		}
	}
	return nil
}
