package gossip

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/logx"
)

// Timing are the knobs of failure detection; zero values mean the default.
type Timing struct {
	ProbeInterval  time.Duration // 300 ms: how often a member is probed
	ProbeTimeout   time.Duration // 150 ms
	GossipInterval time.Duration // 50 ms; an idle tick sends nothing
	SuspicionMult  int           // 6
	RetransmitMult int           // 8
	GossipNodes    int           // 3
}

// The defaults notice a dead member in 2.5 s, of ten in 4 s at most, and forgive a
// pause of 2 s: probed for 300 ms and suspected for 1.8 s, nobody is dead before.
// What varies is when somebody probes it next, so probes are frequent; probed every
// 500 ms, one in twenty of ten took more than 4 s.
// A development agent is alone most of the time and prefers to be quick.
func (c Config) timing() Timing {
	t := Timing{
		ProbeInterval: 300 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond,
		GossipInterval: 50 * time.Millisecond, SuspicionMult: 6, RetransmitMult: 8, GossipNodes: 3,
	}
	if c.Dev {
		t.ProbeInterval, t.ProbeTimeout, t.SuspicionMult = 100*time.Millisecond, 100*time.Millisecond, 3
	}
	setIf(&t.ProbeInterval, c.Timing.ProbeInterval)
	setIf(&t.ProbeTimeout, c.Timing.ProbeTimeout)
	setIf(&t.GossipInterval, c.Timing.GossipInterval)
	setIf(&t.SuspicionMult, c.Timing.SuspicionMult)
	setIf(&t.RetransmitMult, c.Timing.RetransmitMult)
	setIf(&t.GossipNodes, c.Timing.GossipNodes)
	return t
}

func setIf[T comparable](to *T, value T) {
	var zero T
	if value != zero {
		*to = value
	}
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
	s.ReconnectTimeout = cmp.Or(c.ReconnectTimeout, reapFailedAfter)
	s.TombstoneTimeout = forgetLeftAfter
	s.QueueDepthWarning = 1_000_000
	s.MinQueueDepth = 4096
	s.EnableNameConflictResolution = false // it would shut down whoever comes back at a new address

	m := memberlist.DefaultLANConfig()
	t := c.timing()
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
	m.AdvertiseAddr, m.AdvertisePort = advertise, c.AdvertisePort
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
			setIf(&m.AdvertisePort, c.AdvertisePort)
			if m.AdvertisePort == 0 {
				m.AdvertisePort = m.BindPort
			}
			return t, nil
		}
	}
	if strings.Contains(err.Error(), "address already in use") {
		return nil, fmt.Errorf("gossip: listen on %s port %d: the port is in use: stop the other agent, or set another bind_addr or ports.serf_lan", m.BindAddr, m.BindPort)
	}
	return nil, fmt.Errorf("gossip: listen on %s port %d: %w", m.BindAddr, m.BindPort, err)
}
