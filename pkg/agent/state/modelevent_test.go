package state

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

// modelEvent is a durable event in the model.
type modelEvent struct {
	api.DurableEvent
	ackedBy []string // sorted without regard to case
}

func (m *model) eventFire(c *EventFire) any {
	if slices.ContainsFunc(m.events, func(e modelEvent) bool { return e.ID == c.ID }) {
		return fmt.Sprintf("event id %q is taken", c.ID)
	}
	e := api.DurableEvent{
		Index: m.index, ID: c.ID, Name: c.Name, Payload: c.Payload, Time: m.now.UTC(), Expires: m.now.Add(c.TTL).UTC(),
	}
	m.events = append(m.events, modelEvent{DurableEvent: e})
	return e
}

func (m *model) eventAck(c *EventAck) any {
	i := slices.IndexFunc(m.events, func(e modelEvent) bool { return e.ID == c.ID })
	if i < 0 {
		return fmt.Sprintf("no durable event has the id %q: it has expired, or never was", c.ID)
	}
	n, ok := m.nodes[strings.ToLower(c.Node)]
	if !ok {
		return fmt.Sprintf("node %q is not registered", c.Node)
	}
	e := &m.events[i]
	if !slices.ContainsFunc(e.ackedBy, func(name string) bool { return strings.EqualFold(name, n.Node) }) {
		e.ackedBy = append(slices.Clone(e.ackedBy), n.Node)
		slices.SortFunc(e.ackedBy, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	}
	return nil
}

func (m *model) reapEvents() {
	m.events = slices.DeleteFunc(slices.Clone(m.events), func(e modelEvent) bool { return !e.Expires.After(m.now) })
}

func (m *model) log(name string, since uint64) []modelEvent {
	out := []modelEvent{}
	for _, e := range m.events {
		if (name == "" || e.Name == name) && e.Index > since {
			out = append(out, e)
		}
	}
	return out
}

func (m *model) eventStats() (n, size int) {
	for _, e := range m.events {
		size += len(e.Name) + len(e.Payload)
	}
	return len(m.events), size
}

// eventQueries are those about durable events.
func eventQueries() []query {
	var qs []query
	add := func(name string, exact bool, ask func(*Snapshot) (any, Meta), model func(*model) any) {
		qs = append(qs, query{name, exact, ask, model})
	}
	for _, name := range []string{"", "x", "y", "none"} {
		for _, since := range []uint64{0, 20} {
			add(fmt.Sprintf("log of %q since %d", name, since), since == 0,
				func(s *Snapshot) (any, Meta) { return ask(s.EventLog(name, since)) },
				func(m *model) any {
					out := []api.DurableEvent{}
					for _, e := range m.log(name, since) {
						out = append(out, e.DurableEvent)
					}
					return out
				})
		}
		add(fmt.Sprintf("acks of %q", name), true,
			func(s *Snapshot) (any, Meta) { return ask(s.EventLogAcks(name, 0)) },
			func(m *model) any {
				out := []api.EventAcks{}
				for _, e := range m.log(name, 0) {
					out = append(out, api.EventAcks{DurableEvent: e.DurableEvent, Acks: len(e.ackedBy)})
				}
				return out
			})
	}
	for _, id := range []string{"e1", "e2", "none"} {
		add("event "+id, true, func(s *Snapshot) (any, Meta) { return ask(s.EventAcks(id)) }, func(m *model) any {
			for _, e := range m.events {
				if e.ID == id {
					return api.EventAcks{DurableEvent: e.DurableEvent, Acks: len(e.ackedBy), AckedBy: e.ackedBy}
				}
			}
			return nil
		})
	}
	return qs
}

func genEventID(t *rapid.T) string { return oneOf(t, "event id", "e1", "e2", "e3", "e4") }

func genEvent(t *rapid.T) Command {
	if rapid.Bool().Draw(t, "ack") {
		return &EventAck{genEventID(t), genNode(t).Node}
	}
	return &EventFire{
		ID: genEventID(t), Name: oneOf(t, "event", "x", "y"), Payload: []byte(oneOf(t, "payload", "1", "22")),
		TTL: rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second, time.Hour}).Draw(t, "event ttl"),
	}
}
