package gossip

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/logx"
)

// Timing says how failures are detected, in memberlist's terms.
type Timing struct {
	ProbeInterval  time.Duration // how often a member is probed
	ProbeTimeout   time.Duration
	GossipInterval time.Duration // an idle tick sends nothing
	SuspicionMult  int
	RetransmitMult int
	GossipNodes    int
}

func (c Config) serfConfig(events chan<- serf.Event) (*serf.Config, error) {
	switch len(c.EncryptKey) {
	case 0, 16, 24, 32:
	default:
		return nil, fmt.Errorf("gossip: the encryption key has %d bytes: it must have 16, 24 or 32", len(c.EncryptKey))
	}
	log := limitedLog(logx.Std(c.Logger))

	s := serf.DefaultConfig()
	s.NodeName = c.NodeName
	s.EventCh = events
	s.Logger, s.LogOutput = log, nil
	s.BroadcastTimeout = time.Second
	s.LeavePropagateDelay = 100 * time.Millisecond
	s.ReconnectTimeout = c.ReconnectTimeout
	s.TombstoneTimeout = forgetLeftAfter
	s.QueueDepthWarning = 1_000_000
	s.MinQueueDepth = 4096
	s.EnableNameConflictResolution = false // it would shut down whoever comes back at a new address

	m := memberlist.DefaultLANConfig()
	t := c.Timing
	m.ProbeInterval, m.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	m.GossipInterval, m.GossipNodes = t.GossipInterval, t.GossipNodes
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = t.SuspicionMult, 6
	m.RetransmitMult = t.RetransmitMult
	m.TCPTimeout = streamTimeout
	m.PushPullInterval = 6 * time.Second // what makes many joins at once converge
	m.DeadNodeReclaimTime = time.Second
	m.EnableCompression = false // costs CPU, and lets a small message unpack to a huge one
	m.SecretKey = c.EncryptKey
	m.Logger, m.LogOutput = log, nil
	m.BindAddr, m.BindPort = c.BindAddr, c.BindPort
	if m.BindAddr == "" {
		m.BindAddr = "0.0.0.0"
	}
	advertise, err := advertiseAddr(m.BindAddr, c.AdvertiseAddr)
	if err != nil {
		return nil, err
	}
	m.AdvertiseAddr, m.AdvertisePort = advertise, c.BindPort
	s.MemberlistConfig = m
	return s, nil
}

// advertiseAddr finds the address that others reach us by.
func advertiseAddr(bind, advertise string) (string, error) {
	if advertise != "" {
		if net.ParseIP(advertise) == nil {
			return "", fmt.Errorf("gossip: advertise address %q is not an IP address", advertise)
		}
		return advertise, nil
	}
	ip := net.ParseIP(bind)
	if ip == nil {
		return "", fmt.Errorf("gossip: bind address %q is not an IP address", bind)
	}
	if !ip.IsUnspecified() {
		return bind, nil
	}
	private, err := sockaddr.GetPrivateIP()
	if err != nil {
		return "", fmt.Errorf("gossip: look for a private address of this machine: %w", err)
	}
	if private == "" {
		return "", fmt.Errorf("gossip: bound to %s, but this machine has no private address to advertise: set advertise_addr or bind_addr", bind)
	}
	return private, nil
}

// listen opens the TCP and UDP ports.
func (c Config) listen(m *memberlist.Config) (memberlist.Transport, error) {
	if c.transport != nil {
		return c.transport, nil
	}
	nc := &memberlist.NetTransportConfig{BindAddrs: []string{m.BindAddr}, BindPort: m.BindPort, Logger: m.Logger}
	// The kernel picks a free TCP port; the same UDP port may be taken.
	tries := 1
	if m.BindPort == 0 {
		tries = 10
	}
	var err error
	for range tries {
		var t *memberlist.NetTransport
		if t, err = memberlist.NewNetTransport(nc); err == nil {
			m.BindPort = t.GetAutoBindPort()
			m.AdvertisePort = m.BindPort
			return t, nil
		}
	}
	if strings.Contains(err.Error(), "address already in use") {
		return nil, fmt.Errorf("gossip: listen on %s port %d: the port is in use: stop the other agent, or set another bind_addr or ports.serf_lan", m.BindAddr, m.BindPort)
	}
	return nil, fmt.Errorf("gossip: listen on %s port %d: %w", m.BindAddr, m.BindPort, err)
}
