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
	// leaveHurry is how long news of our leave goes out at once, hurryTick how
	// often it is looked for.
	leaveHurry = 60 * time.Millisecond
	hurryTick  = 4 * time.Millisecond

	// silentFor probe intervals without any packet, and we may be cut off: every
	// healthy one brings an answer at least.
	silentFor = 3
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
	mult := p.cfg.timing().RetransmitMult
	want := mult * int(math.Ceil(math.Log10(float64(len(others)+2))))
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for i := range want {
		to := others[i%len(others)]
		addr := &net.UDPAddr{IP: net.ParseIP(to.Addr), Port: int(to.Port)}
		p.asked.Go(func() { _, _ = s.Memberlist().Ping(to.Name, addr) })
	}
}

// hurry flushes again and again for a while.
func (p *Pool) hurry(s *serf.Serf, total time.Duration) {
	p.asked.Go(func() {
		for range int(total / hurryTick) {
			time.Sleep(hurryTick)
			p.flush(s)
		}
	})
}

// watchSilence announces us anew when we come back: from a pause of the process
// or from behind a network that was cut. By then the others may suspect us, have
// said so when we could not hear it, and wait for our denial; a pause of two
// seconds leaves them no time to say it again. Memberlist counts an announcement
// as a denial.
func (p *Pool) watchSilence(s *serf.Serf, stop <-chan struct{}) {
	t := p.cfg.timing()
	limit := silentFor * t.ProbeInterval
	// Past this the suspicion has run out, and what follows is not ours to hurry.
	most := time.Duration(2*t.SuspicionMult) * t.ProbeInterval
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
		quiet := now.Sub(time.Unix(0, p.guard.heard.Load()))
		paused := now.Sub(last) > limit+tick
		last = now
		was := silent
		silent = quiet > limit && quiet < most
		if paused || silent || was { // once more when it is over: now they hear it
			p.announce(s)
		}
	}
}

func (p *Pool) announce(s *serf.Serf) {
	if len(p.view.Load().others(p.cfg.NodeName)) == 0 {
		return
	}
	p.asked.Go(func() {
		p.tagLock.Lock() // what is announced are the tags
		defer p.tagLock.Unlock()
		_ = s.Memberlist().UpdateNode(announceTimeout) // late is as good: it goes on being gossiped
	})
	p.asked.Go(func() {
		time.Sleep(time.Millisecond) // until it is in the queue
		p.flush(s)
	})
}

// others are the members that are alive but us.
func (v *members) others(self string) []api.Member {
	var out []api.Member
	for _, m := range v.list {
		if m.Status == api.MemberAlive && m.Name != self {
			out = append(out, m)
		}
	}
	return out
}
