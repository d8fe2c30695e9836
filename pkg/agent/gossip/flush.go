package gossip

import (
	"math"
	"math/rand/v2"
	"net"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	// leaveFlush is how long our leave is flushed, flushInterval the pause between two
	// flushes.
	leaveFlush    = 60 * time.Millisecond
	flushInterval = 4 * time.Millisecond

	// silentProbes is after how many probe intervals without any packet we may be cut
	// off: each healthy one brings an answer.
	silentProbes = 3
	// announceTimeout is how long an announcement may take to leave.
	announceTimeout = 100 * time.Millisecond
)

// flush sends what is to be gossiped now, not at the next tick: memberlist puts
// it into the pings that it sends. It goes to as many members as memberlist
// would tell by itself.
func (p *Pool) flush(s *serf.Serf) {
	v := p.view.Load()
	others := v.others(p.cfg.NodeName)
	if len(others) == 0 {
		return
	}
	mult := p.cfg.Timing.RetransmitMult
	want := mult * int(math.Ceil(math.Log10(float64(len(others)+2))))
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for i := range want {
		to := others[i%len(others)]
		addr := &net.UDPAddr{IP: net.ParseIP(to.Addr), Port: int(to.Port)}
		p.background.Go(func() { _, _ = s.Memberlist().Ping(to.Name, addr) })
	}
}

// flushFor flushes repeatedly for a duration.
func (p *Pool) flushFor(s *serf.Serf, total time.Duration) {
	p.background.Go(func() {
		for range int(total / flushInterval) {
			time.Sleep(flushInterval)
			p.flush(s)
		}
	})
}

// watchIsolation announces us anew when we come back: from a pause of the process
// or from behind a network that was cut. By then the others may suspect us, have
// said so when we could not hear it, and wait for our denial; a pause of two
// seconds leaves them no time to say it again. Memberlist counts an announcement
// as a denial.
func (p *Pool) watchIsolation(s *serf.Serf, stop <-chan struct{}) {
	t := p.cfg.Timing
	limit := silentProbes * t.ProbeInterval
	// Beyond this the suspicion has run out, and an announcement comes too late.
	maxSilence := time.Duration(2*t.SuspicionMult) * t.ProbeInterval
	silent := false
	for last := time.Now(); ; {
		tick := t.ProbeInterval / 5
		if s.Memberlist().NumMembers() < 2 { // nobody suspects us
			tick = 2 * t.ProbeInterval
		}
		select {
		case <-stop:
			return
		case <-time.After(tick):
		}
		now := time.Now()
		silence := now.Sub(time.Unix(0, p.filter.lastPacket.Load()))
		paused := now.Sub(last) > limit+tick
		last = now
		was := silent
		silent = silence > limit && silence < maxSilence
		if paused || silent || was { // once more when it is over: now they hear it
			p.announce(s)
		}
	}
}

func (p *Pool) announce(s *serf.Serf) {
	if len(p.view.Load().others(p.cfg.NodeName)) == 0 {
		return
	}
	p.background.Go(func() {
		p.tagLock.Lock() // what is announced are the tags
		defer p.tagLock.Unlock()
		_ = s.Memberlist().UpdateNode(announceTimeout) // late is as good: it goes on being gossiped
	})
	p.background.Go(func() {
		time.Sleep(time.Millisecond) // until it is in the queue
		p.flush(s)
	})
}

// others are the members that are alive, without ourselves.
func (v *members) others(self string) []api.Member {
	var out []api.Member
	for _, m := range v.list {
		if m.Status == api.MemberAlive && m.Name != self {
			out = append(out, m)
		}
	}
	return out
}
