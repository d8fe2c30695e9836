package gossip

import (
	"time"

	"github.com/hashicorp/serf/serf"
)

// refreshPerMember, times the size of the pool, is how long after a change was shown
// the next one is: to show one costs some time for each member that there is, and
// when many come at once each of them is one. A pool of ten waits for 1 ms, one
// of a thousand for 100 ms; a change after an idle time is shown at once.
const refreshPerMember = 100 * time.Microsecond

// handleEvents is the only goroutine that calls OnChange and OnEvent. It reads
// on until serf has been shut down, which would otherwise block.
func (p *Pool) handleEvents(s *serf.Serf, events <-chan serf.Event, stop <-chan struct{}) {
	var due <-chan time.Time // there is something to show then
	var notBefore time.Time
	show := func() {
		p.changed()
		due, notBefore = nil, time.Now().Add(time.Duration(p.NumNodes())*refreshPerMember)
	}
	for {
		select {
		case e := <-events:
			switch e := e.(type) {
			case serf.MemberEvent:
				if e.EventType() == serf.EventMemberLeave {
					p.flush(s) // who has not heard of it yet should not wait for our next tick
				}
				if wait := time.Until(notBefore); wait <= 0 {
					show()
				} else if due == nil {
					due = time.After(wait)
				}
			case serf.UserEvent:
				p.received(e)
			}
		case <-due:
			show()
		case <-p.grace.timer.C:
			show()
		case <-stop:
			return
		}
	}
}

func (p *Pool) received(e serf.UserEvent) {
	if p.cfg.OnEvent != nil {
		p.cfg.OnEvent(Event{Name: e.Name, Payload: e.Payload, LTime: uint64(e.LTime), Old: p.cutoff.isOld(uint64(e.LTime))})
	}
}

func (p *Pool) changed() {
	p.refresh()
	if p.cfg.OnChange != nil {
		p.cfg.OnChange()
	}
}
