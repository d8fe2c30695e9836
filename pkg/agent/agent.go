// Package agent assembles one muster agent, server or client, from its parts. Run starts
// them from top to bottom and stops them in the opposite order.
//
//	server                          client
//	------                          ------
//	data directory: lock, node id   data directory: lock, node id
//	gossip                          gossip
//	server port: raft, HTTP/2       (requests go to the port of a server)
//	raft, state, leader duties
//	own services and checks         own services and checks
//	DNS                             DNS
//	HTTP                            HTTP
//
// It promises that an HTTP, server or gossip port that cannot be opened, or data that
// cannot be used, stops the start before the agent joins others; that a shutdown closes
// the client ports first, and raft and gossip last; and that Run returns after
// everything that it started has ended.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/datadir"
	"github.com/muster-dev/muster/pkg/agent/dns"
	"github.com/muster-dev/muster/pkg/agent/event"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/httpserver"
	"github.com/muster-dev/muster/pkg/agent/local"
	"github.com/muster-dev/muster/pkg/agent/lookup"
	"github.com/muster-dev/muster/pkg/agent/loopback"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/agent/retryjoin"
	"github.com/muster-dev/muster/pkg/agent/server"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/handlers"
)

// userAgent is the User-Agent of the requests of an agent.
const userAgent = "muster-agent"

// leaveTimeout bounds a graceful leave.
const leaveTimeout = 15 * time.Second

// Options are what an agent needs beside its configuration.
type Options struct {
	Logger   *slog.Logger
	Level    *slog.LevelVar // changed by a reload; may be nil
	Version  string
	Revision string
	// Reload reads the configuration again: for SIGHUP, PUT /v1/agent/reload and
	// auto_reload_config.
	Reload func() (*config.Config, []string, error)
	// Files are the files and directories that Reload reads, for auto_reload_config.
	Files []string
	// Ready is called once every port is open; may be nil.
	Ready func()
	// Repair moves a server's damaged raft data aside first; see package server.
	Repair bool
}

// Agent is one agent. Its methods may be called while Run runs.
type Agent struct {
	cfg  *config.Config
	opts Options
	log  *slog.Logger
	id   string

	identity *clusterid.Identity // nil on a client
	joined   chan struct{}       // closed once every address to join was tried

	pool     *gossip.Pool
	bus      *bus.Bus
	events   *event.Ring
	server   *server.Server // nil on a client
	local    *local.State
	runner   *exec.Runner
	api      *httpapi.API
	dns      *dns.Server
	lookup   dns.Lookup
	dnsCache *lookup.Cache // nil on a server
	http     *httpserver.Server

	watches   *handlers.Set // nil until the API is made
	telemetry *telemetry

	servers atomic.Int32 // number of other living servers, as last reported by gossip
	ready   atomic.Bool  // every part has been made

	// live is the configuration of the last reload. Settings that need a restart are read
	// from cfg.
	live atomic.Pointer[config.Config]

	leaving sync.Once
	left    chan struct{} // closed once the agent has left, or is to stop during its start

	phase phase
}

// New makes an agent. It does nothing until Run.
func New(cfg *config.Config, opts Options) *Agent {
	a := &Agent{cfg: cfg, opts: opts, log: opts.Logger, left: make(chan struct{}), joined: make(chan struct{})}
	a.live.Store(cfg)
	return a
}

// Run runs the agent until ctx ends, it has left, or a part of it fails.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // Leave also ends the waits of the start
		select {
		case <-a.left:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := a.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was stopped during the start
	}
	return err
}

func (a *Agent) run(ctx context.Context) (err error) {
	release, err := a.identify(ctx)
	defer release()
	if err != nil {
		return err
	}
	identity, err := mux.LoadIdentity(a.tlsFiles(), a.log)
	if err != nil {
		return err
	}
	warnOfOutsiders(a.log, len(a.cfg.EncryptKey) > 0, identity.Verifies(), a.cfg.Dev && a.cfg.Bind.IsLoopback())
	dialer := mux.NewDialer(identity, dialTimeout)
	conns := dialer.Transport()
	defer conns.CloseIdleConnections()
	transport := clusterid.Transport{Inner: conns, Own: a.cluster}
	if a.http, err = httpserver.Listen(a.cfg.Listen.HTTP, a.cfg.UnixSockets, a.cfg.Limits.HTTPMaxConnsPerClient); err != nil {
		return err
	}
	defer a.http.Close()

	parts := newStack(a.log)
	defer parts.stop()
	a.pool = gossip.New(a.gossipConfig())
	a.makeBus(transport)
	var port *mux.Mux
	if a.cfg.Server {
		ln, err := a.listenServer()
		if err != nil {
			return err
		}
		port = mux.New(a.portConfig(ln, identity))
		a.server = server.New(a.serverConfig(port, dialer, transport))
		parts.start("server port", port.Run)
	}
	parts.start("gossip", a.pool.Run)
	if err := a.awaitGossip(ctx, parts); err != nil {
		return err
	}
	if err := a.makeAPI(transport); err != nil {
		return err
	}
	if a.server != nil {
		parts.start("server", a.server.Run)
		parts.start("server API", func(ctx context.Context) error {
			return mux.ServeHTTP(ctx, port.HTTP(), a.server.Handler(a.api.Internal()), a.log)
		})
	}
	if err := a.loadLocal(); err != nil {
		return err
	}
	if !a.phase.begin() {
		return a.pool.Leave() // Leave was called during the start: tell members that know this node from before
	}
	a.startRest(parts)
	if err := a.awaitOpen(ctx, parts); err != nil {
		return err
	}
	a.reloadIfAsked()

	select {
	case <-ctx.Done():
		return nil
	case err := <-parts.failed:
		return err
	}
}

// identify validates the configuration, locks the data directory, and reads or makes the
// ids of this agent. release unlocks the directory; it must be called after an error, too.
func (a *Agent) identify(ctx context.Context) (release func(), err error) {
	release = func() {}
	if err := Validate(a.cfg); err != nil {
		return release, err
	}
	if a.cfg.DataDir != "" {
		unlock, err := datadir.Lock(a.cfg.DataDir)
		if err != nil {
			return release, err
		}
		release = unlock
	}
	if a.opts.Repair {
		if err := a.repair(ctx); err != nil {
			return release, err
		}
	}
	if a.id, err = datadir.NodeID(a.cfg.DataDir, a.cfg.NodeID); err != nil {
		return release, err
	}
	if a.cfg.Server {
		if a.identity, err = clusterid.Open(a.cfg.DataDir, a.id); err != nil {
			return release, err
		}
	}
	a.telemetry, err = newTelemetry(a.cfg.Telemetry.MetricsPrefix, a.cfg.Telemetry.PrometheusRetentionTime)
	return release, err
}

// startRest starts the parts that need gossip, the server and the local state.
func (a *Agent) startRest(parts *stack) {
	parts.start("bus", a.bus.Run)
	parts.start("remote execution", a.runner.Run)
	parts.start("join", a.joiner().Run)
	parts.start("checks", a.local.Run)
	if a.dnsCache != nil {
		parts.start("DNS cache", a.dnsCache.Run)
	}
	parts.start("dns", a.dns.Run)
	parts.start("http", func(ctx context.Context) error {
		return a.http.Run(ctx, a.withProfiles(a.api.Public()), a.cfg.HTTP.MaxHeaderBytes, a.log)
	})
	parts.start("watches", a.watches.Run) // after HTTP, because handlers may send requests to it
	if a.cfg.AutoReloadConfig && len(a.opts.Files) > 0 {
		parts.start("auto-reload", func(ctx context.Context) error {
			return config.WatchFiles(ctx, a.opts.Files, a.Reload, a.log)
		})
	}
}

// awaitGossip waits until the gossip port is open, because the server needs its number.
func (a *Agent) awaitGossip(ctx context.Context, parts *stack) error {
	if err := a.pool.AwaitUp(ctx); err != nil {
		select {
		case failed := <-parts.failed: // its error has the cause
			return failed
		default:
			return err
		}
	}
	return nil
}

// awaitOpen waits until DNS listens, then calls Options.Ready.
func (a *Agent) awaitOpen(ctx context.Context, parts *stack) error {
	opened := make(chan error, 1)
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := a.dns.Addrs(wait)
		opened <- err
	}()
	select {
	case err := <-parts.failed:
		return err
	case <-ctx.Done():
		return nil
	case err := <-opened:
		if err != nil {
			return <-parts.failed
		}
	}
	a.log.Info("agent runs", "node", a.cfg.NodeName, "id", a.id, "server", a.cfg.Server, "http", a.cfg.Listen.HTTP, "dns", a.cfg.Listen.DNS)
	if a.opts.Ready != nil {
		a.opts.Ready()
	}
	return nil
}

func (a *Agent) listenServer() (net.Listener, error) {
	addr := net.JoinHostPort(a.cfg.Bind.String(), strconv.Itoa(a.cfg.Ports.Server))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on server port %s: %w; set ports.server or bind_addr to a free one", addr, err)
	}
	return ln, nil
}

// makeAPI makes the API, and the parts that it needs or that send requests to it.
func (a *Agent) makeAPI(transport http.RoundTripper) error {
	router := forward.New(forward.Config{
		Transport:   transport,
		Servers:     a.otherServers,
		HoldTimeout: a.cfg.Performance.RPCHoldTimeout,
		Logger:      a.log,
	})
	// The API and the local state need each other: the state reads and writes the catalog
	// through the API, and the API shows the state.
	self := &loopback.Transport{}
	own, err := client.New(client.Config{Transport: self, UserAgent: userAgent})
	if err != nil {
		return err
	}
	a.local = local.New(a.localConfig(own))
	if a.lookup, err = a.makeLookup(self); err != nil {
		return err
	}
	a.dns = dns.New(a.dnsConfig(a.cfg))
	conf, err := a.apiConfig(router)
	if err != nil {
		return err
	}
	a.api = httpapi.New(conf)
	self.Handler = a.api.Own()
	if a.watches, err = a.makeWatches(self); err != nil {
		return err
	}
	if err := a.makeRunner(own); err != nil {
		return err
	}
	a.ready.Store(true)
	return nil
}

func (a *Agent) loadLocal() error {
	err := a.local.Reload(a.cfg.Services, a.cfg.Checks, a.cfg.NodeMeta)
	if err == nil {
		err = a.local.Load()
	}
	if err != nil {
		return fmt.Errorf("load services and checks: %w", err)
	}
	return nil
}

func (a *Agent) joiner() *retryjoin.Joiner {
	me := a.pool.Local()
	self := map[string]bool{net.JoinHostPort(me.Addr, strconv.Itoa(int(me.Port))): true}
	if ip := a.cfg.SerfBind; ip.IsValid() && !ip.IsUnspecified() {
		self[netip.AddrPortFrom(ip, me.Port).String()] = true
	}
	return retryjoin.New(retryjoin.Config{
		Pool: a.pool, Addrs: a.cfg.RetryJoin, Self: self, Port: a.cfg.Ports.SerfLAN,
		Interval: a.cfg.RetryInterval, MaxAttempts: a.cfg.RetryMax,
		Tried: sync.OnceFunc(func() { close(a.joined) }), Logger: a.log,
	})
}

// cluster returns the id of the cluster of this agent, "" while it is unknown.
func (a *Agent) cluster() string {
	if a.identity != nil {
		if id := a.identity.Confirmed(); id != "" {
			return id
		}
	}
	return a.pool.Cluster()
}

// membersChanged is called by gossip, never concurrently.
func (a *Agent) membersChanged() {
	if a.server != nil {
		a.server.MembersChanged()
	}
	a.bus.MembersChanged()
	servers := len(a.otherServers())
	if known := a.servers.Swap(int32(servers)); int32(servers) > known && a.ready.Load() {
		a.local.SyncSoon() // a push that failed before may succeed now
	}
}

// otherServers returns the addresses of the other living servers.
func (a *Agent) otherServers() []string {
	var out []string
	for _, s := range a.pool.Servers() {
		if s.Status == api.MemberAlive && s.ID != a.id {
			out = append(out, s.Addr)
		}
	}
	return out
}

// Leave leaves the cluster gracefully and ends Run: others see this node as left, not as
// failed. An agent that is still starting stops instead, because it has not joined yet.
func (a *Agent) Leave(ctx context.Context) error {
	defer a.leaving.Do(func() { close(a.left) })
	if !a.phase.leave() {
		a.log.Info("stopping before the start was done")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	var err error
	if a.server != nil {
		err = a.server.Leave(ctx)
		a.drain(ctx)
	} else {
		err = a.pool.Leave()
	}
	if errors.Is(err, gossip.ErrNotRunning) {
		return nil
	}
	return err
}

// drain keeps the server answering for leave_drain_time after it has left, for clients
// that do not know it yet.
func (a *Agent) drain(ctx context.Context) {
	select {
	case <-time.After(a.cfg.Performance.LeaveDrainTime):
	case <-ctx.Done():
	}
}
