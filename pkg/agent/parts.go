package agent

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/dns"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/lookup"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/agent/server"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// This file fills the Config of each part from the agent's configuration. The constants
// are settings without a configuration key.
const (
	dialTimeout       = 5 * time.Second  // of connections to a server port, with the TLS handshake
	maxHandshakes     = 256              // concurrent TLS handshakes at the server port
	maxServerConns    = 8192             // connections at the server port
	serverConnsPerIP  = 256              // an agent has one, a server a few
	reconcileInterval = time.Minute      // how often the leader compares the catalog with gossip
	healthInterval    = 2 * time.Second  // how often autopilot reads the health of the servers
	promoteInterval   = 10 * time.Second // how often autopilot promotes and removes servers
)

func (a *Agent) build() string { return buildTag(a.opts.Version, a.opts.Revision) }

// buildTag is the version that members show each other. It must begin with N.N.N.
func buildTag(version, revision string) string {
	if len(revision) > 8 {
		revision = revision[:8]
	}
	return version + ":" + revision
}

func (a *Agent) tlsFiles() mux.Files {
	rpc, all := a.cfg.TLS.InternalRPC, a.cfg.TLS.Defaults
	f := mux.Files{
		CA:   cmp.Or(rpc.CAFile, all.CAFile),
		Cert: cmp.Or(rpc.CertFile, all.CertFile),
		Key:  cmp.Or(rpc.KeyFile, all.KeyFile),
	}
	if rpc.VerifyServerHostname || all.VerifyServerHostname {
		f.ServerName = "server." + a.cfg.Datacenter + "." + strings.TrimSuffix(a.cfg.Domain, ".")
	}
	return f
}

func (a *Agent) portConfig(ln net.Listener, identity *mux.Identity) mux.Config {
	return mux.Config{
		Listener:         ln,
		Identity:         identity,
		HandshakeTimeout: a.cfg.Limits.RPCHandshakeTimeout,
		MaxHandshakes:    maxHandshakes,
		MaxConnsPerIP:    serverConnsPerIP,
		MaxConns:         maxServerConns,
		Logger:           a.log,
	}
}

func (a *Agent) gossipConfig() gossip.Config {
	g := a.cfg.GossipLAN
	var cluster, run string
	if a.identity != nil {
		cluster, run = a.identity.Confirmed(), server.RunTag(a.identity.Hello(""))
	}
	return gossip.Config{
		Cluster:    cluster,
		Run:        run,
		NodeName:   a.cfg.NodeName,
		NodeID:     a.id,
		Datacenter: a.cfg.Datacenter,
		Server:     a.cfg.Server,
		ServerPort: a.cfg.Ports.Server,
		Level:      state.Level,
		Build:      a.build(),
		Expect:     a.cfg.BootstrapExpect,
		Bootstrap:  a.cfg.Bootstrap,
		UseTLS:     a.tlsFiles().CA != "",

		BindAddr:      a.cfg.SerfBind.String(),
		BindPort:      a.cfg.Ports.SerfLAN,
		AdvertiseAddr: a.cfg.Advertise.String(),

		EncryptKey:       a.cfg.EncryptKey,
		DataDir:          a.cfg.DataDir,
		RejoinAfterLeave: a.cfg.RejoinAfterLeave,
		ReconnectTimeout: a.cfg.ReconnectTimeout,

		MaxMembers: gossip.MaxMembers,
		Timing: gossip.Timing{
			GossipNodes:    g.Nodes,
			GossipInterval: g.Interval,
			ProbeInterval:  g.ProbeInterval,
			ProbeTimeout:   g.ProbeTimeout,
			SuspicionMult:  g.SuspicionMult,
			RetransmitMult: g.RetransmitMult,
		},
		Logger:   a.log,
		OnChange: a.membersChanged,
		OnEvent: func(e gossip.Event) {
			a.bus.Heard(bus.Message{Name: e.Name, Payload: e.Payload, LTime: e.LTime}, e.Old)
		},
	}
}

func (a *Agent) serverConfig(port *mux.Mux, dialer *mux.Dialer, transport http.RoundTripper) server.Config {
	p := a.cfg.Autopilot
	return server.Config{
		NodeName:    a.cfg.NodeName,
		NodeID:      a.id,
		Datacenter:  a.cfg.Datacenter,
		Address:     net.JoinHostPort(a.cfg.Advertise.String(), strconv.Itoa(a.cfg.Ports.Server)),
		Bootstrap:   a.cfg.Bootstrap,
		Expect:      a.cfg.BootstrapExpect,
		HoldTimeout: a.cfg.Performance.RPCHoldTimeout,

		ReconcileInterval:    reconcileInterval,
		SessionTTLMultiplier: a.cfg.SessionTTLMultiplier,
		NoLeaderProbe:        !a.cfg.Performance.LeaderProbe,
		Raft: raftnode.Config{
			DataDir:           a.cfg.DataDir,
			Listener:          port.Raft(),
			Dial:              dialer.DialRaft,
			Multiplier:        a.cfg.Performance.RaftMultiplier,
			SnapshotThreshold: uint64(a.cfg.RaftSnapshotThreshold),
			SnapshotInterval:  a.cfg.RaftSnapshotInterval,
			TrailingLogs:      uint64(a.cfg.RaftTrailingLogs),
		},
		Autopilot: server.Autopilot{
			KeepDeadServers:         !p.CleanupDeadServers,
			LastContactThreshold:    p.LastContactThreshold,
			MaxTrailingLogs:         uint64(p.MaxTrailingLogs),
			MinQuorum:               uint(p.MinQuorum),
			ServerStabilizationTime: p.ServerStabilizationTime,
			UpdateInterval:          healthInterval,
			ReconcileInterval:       promoteInterval,
		},
		Identity:  a.identity,
		Joined:    a.joined,
		Pool:      a.pool,
		Transport: transport,
		Logger:    a.log,
	}
}

func (a *Agent) localConfig(c local.Catalog) local.Config {
	return local.Config{
		Node: api.Node{
			ID:              a.id,
			Node:            a.cfg.NodeName,
			Address:         a.cfg.Advertise.String(),
			Datacenter:      a.cfg.Datacenter,
			TaggedAddresses: a.cfg.TaggedAddresses,
			Meta:            a.cfg.NodeMeta,
		},
		DataDir:                 a.cfg.DataDir,
		Catalog:                 c,
		Logger:                  a.log,
		CheckUpdateInterval:     a.cfg.CheckUpdateInterval,
		CheckOutputMaxSize:      a.cfg.CheckOutputMaxSize,
		DiscardCheckOutput:      a.cfg.DiscardCheckOutput,
		EnableScriptChecks:      a.cfg.EnableScriptChecks,
		EnableLocalScriptChecks: a.cfg.EnableLocalScriptChecks,
		ClusterSize:             a.pool.NumNodes,
	}
}

// makeLookup makes the source of DNS answers: on a server its state, on a client a cache
// that reads through the own API.
func (a *Agent) makeLookup(self http.RoundTripper) (dns.Lookup, error) {
	if a.server != nil {
		return lookup.Server{Datacenter: a.cfg.Datacenter, Views: a.server.Views(), Await: a.server.AwaitStale}, nil
	}
	var err error
	a.dnsCache, err = lookup.NewCache(lookup.Config{
		Datacenter: a.cfg.Datacenter, Rules: lookupRules(a.cfg), API: self, UserAgent: userAgent, Logger: a.log,
	})
	return a.dnsCache, err
}

func lookupRules(cfg *config.Config) lookup.Rules {
	return lookup.Rules{AllowStale: cfg.DNS.AllowStale, MaxStale: cfg.DNS.MaxStale}
}

// dnsConfig takes the settings that a reload can change from cfg, and the others from the
// configuration of the start.
func (a *Agent) dnsConfig(cfg *config.Config) dns.Config {
	d := cfg.DNS
	if a.dnsCache != nil {
		a.dnsCache.SetRules(lookupRules(cfg))
	}
	return dns.Config{
		Addrs:              a.cfg.Listen.DNS,
		Domain:             a.cfg.Domain,
		AltDomain:          a.cfg.AltDomain,
		Datacenter:         a.cfg.Datacenter,
		Lookup:             a.lookup,
		Logger:             a.log,
		NodeTTL:            d.NodeTTL,
		ServiceTTL:         d.ServiceTTL,
		SOA:                dns.SOA(d.SOA),
		EnableTruncate:     d.EnableTruncate,
		OnlyPassing:        d.OnlyPassing,
		UDPAnswerLimit:     d.UDPAnswerLimit,
		ARecordLimit:       d.ARecordLimit,
		DisableCompression: d.DisableCompression,
		NodeMetaTXT:        d.EnableAdditionalNodeMetaTXT,
		TranslateWAN:       a.cfg.TranslateWANAddrs,
		Recursors:          cfg.Recursors,
		RecursorTimeout:    d.RecursorTimeout,
		RandomRecursor:     d.RecursorStrategy == "random",
	}
}

func (a *Agent) apiConfig(router *forward.Router) (httpapi.Config, error) {
	writers, err := prefixes(a.cfg.HTTP.AllowWriteHTTPFrom)
	if err != nil {
		return httpapi.Config{}, err
	}
	conf := httpapi.Config{
		Datacenter: a.cfg.Datacenter,
		NodeName:   a.cfg.NodeName,
		Version:    api.AgentVersion{SHA: a.opts.Revision, HumanVersion: a.opts.Version},
		Members:    a.pool,
		Agent:      a,
		Local:      a.local,
		Events:     a.events,
		Bus:        a.bus,
		Forward:    router,

		AlwaysPretty:      a.cfg.Dev,
		HoldTimeout:       a.cfg.Performance.RPCHoldTimeout,
		DefaultQueryTime:  a.cfg.DefaultQueryTime,
		MaxQueryTime:      a.cfg.MaxQueryTime,
		DiscoveryMaxStale: a.cfg.DiscoveryMaxStale,
		SessionTTLMin:     a.cfg.SessionTTLMin,
		MaxKVValueSize:    int64(a.cfg.Limits.KVMaxValueSize),
		MaxTxnBodySize:    int64(a.cfg.Limits.TxnMaxReqLen),
		ResponseHeaders:   a.cfg.HTTP.ResponseHeaders,
		BlockEndpoints:    a.cfg.HTTP.BlockEndpoints,
		AllowWriteFrom:    writers,
		Prometheus:        a.telemetry.prom,
		Logger:            a.log,
	}
	if a.server != nil {
		conf.Cluster = cluster{a.server}
		conf.Relay, conf.Call = exec.NewRelay(), a.call
	}
	return conf, nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("http_config.allow_write_http_from: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// cluster is the server as the API sees it.
type cluster struct{ *server.Server }

// AwaitLeader says whether this server is the leader, and else returns its address.
func (c cluster) AwaitLeader(ctx context.Context) (self bool, addr string, err error) {
	l, err := c.Server.AwaitLeader(ctx)
	return l.Self, l.Addr, err
}
