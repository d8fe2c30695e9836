package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// EventFire adds a durable event for TTL. The proposer chooses the id. Its result is
// the *api.DurableEvent or an error.
type EventFire struct {
	ID      string
	Name    string
	Payload []byte
	TTL     time.Duration
}

// EventAck records that a node has acknowledged a durable event. Repeating it
// changes nothing. Its result is nil or an error.
type EventAck struct{ ID, Node string }

func (*EventFire) kind() byte { return typeEventFire }
func (*EventAck) kind() byte  { return typeEventAck }

func (*EventFire) level() int { return levelSessions }
func (*EventAck) level() int  { return levelSessions }

func (c *EventAck) apply(x *tx) any { return x.eventAck(c) }
func (c *EventFire) apply(x *tx) any {
	ev, err := x.eventFire(c)
	if err != nil {
		return err
	}
	return ev
}

// event is a row of the log. Times are unix nanoseconds.
type event struct {
	Index   uint64
	ID      string
	Name    string
	Payload []byte
	Time    int64
	Expires int64
	Acks    int
}

type eventAck struct{ Event, Node string }

func eventKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 16), index)
}

func (e *event) size() int { return len(e.Name) + len(e.Payload) }

func (e *event) api() api.DurableEvent {
	return api.DurableEvent{
		Index: e.Index, ID: e.ID, Name: e.Name, Payload: e.Payload,
		Time: time.Unix(0, e.Time).UTC(), Expires: time.Unix(0, e.Expires).UTC(),
	}
}

func (r reader) event(id string) *event {
	return first[event](r, tableEvents, "uuid", keyOf(id))
}

func (r reader) acksOf(id string) iter.Seq[*eventAck] {
	return scan[eventAck](r, tableEventAcks, "id_prefix", keyOf(id))
}

func (x *tx) eventFire(c *EventFire) (*api.DurableEvent, error) {
	e := &event{
		Index: x.Index, ID: c.ID, Name: c.Name, Payload: c.Payload,
		Time: x.now, Expires: x.now + int64(min(c.TTL, api.MaxEventTTL)),
	}
	if len(e.Payload) == 0 {
		e.Payload = nil // as it reads back
	}
	switch {
	case c.Name == "":
		return nil, errors.New("Missing name")
	case c.TTL <= 0:
		return nil, fmt.Errorf("event %s has no TTL", c.Name)
	case c.ID == "" || x.event(c.ID) != nil:
		return nil, fmt.Errorf("event id %q is taken", c.ID)
	case x.stats.Events >= api.MaxDurableEvents:
		return nil, full("%d events", api.MaxDurableEvents)
	case x.stats.EventBytes+e.size() > api.MaxDurableEventBytes:
		return nil, full("%d MiB", api.MaxDurableEventBytes>>20)
	}
	x.addEvent(e)
	x.touchEvent(e)
	x.touch(topicDeadlines, "")
	out := e.api()
	return &out, nil
}

func full(format string, args ...any) error {
	return api.Errorf(http.StatusInsufficientStorage,
		"the log of durable events is full (%s): give events a shorter ttl", fmt.Sprintf(format, args...))
}

// addEvent adds the row and counts it.
func (x *tx) addEvent(e *event) {
	x.insert(tableEvents, e)
	x.stats.Events++
	x.stats.EventBytes += e.size()
}

// restoreEvents restores a row of a table of this file.
func (x *tx) restoreEvents(kind byte, body []byte) error {
	if kind == recordEvent {
		e, err := unpackRow[event](body)
		if err == nil {
			x.addEvent(e)
		}
		return err
	}
	a, err := unpackRow[eventAck](body)
	if err != nil {
		return err
	}
	if x.event(a.Event) == nil {
		return errors.New("its event is missing")
	}
	x.insert(tableEventAcks, a)
	return nil
}

func (x *tx) touchEvent(e *event) {
	x.touch(topicEvents, "")
	x.touch(topicEvent, e.Name)
	x.touch(topicEventAcks, e.ID)
}

func (x *tx) eventAck(c *EventAck) error {
	e, n := x.event(c.ID), x.node(c.Node)
	if e == nil {
		return api.Errorf(http.StatusNotFound, "no durable event has the id %q: it has expired, or never was", c.ID)
	}
	if n == nil {
		return api.Errorf(http.StatusBadRequest, "node %q is not registered", c.Node)
	}
	if first[eventAck](x.reader, tableEventAcks, "id", keyOf(e.ID, strings.ToLower(n.Node))) != nil {
		return nil
	}
	if e.Acks >= api.MaxEventAcks {
		return api.Errorf(http.StatusInsufficientStorage, "%d nodes have acknowledged event %s: no more are noted", e.Acks, e.ID)
	}
	x.insert(tableEventAcks, &eventAck{e.ID, n.Node})
	more := *e
	more.Acks++
	x.insert(tableEvents, &more)
	x.touch(topicEventAcks, e.ID)
	return nil
}

// reapEvents removes the events that have expired, and says whether some are left.
func (x *tx) reapEvents() bool {
	n := 0
	for e := range scan[event](x.reader, tableEvents, "at_prefix", nil) {
		if e.Expires > x.now {
			break
		}
		if n > maxReaped {
			return true
		}
		n += 1 + e.Acks
		for a := range x.acksOf(e.ID) {
			x.delete(tableEventAcks, a)
		}
		x.delete(tableEvents, e)
		x.stats.Events--
		x.stats.EventBytes -= e.size()
		x.touchEvent(e)
	}
	return false
}

// EventLog returns the durable events of a name, "" for all, that were fired
// after the index since, in that order.
func (sn *Snapshot) EventLog(name string, since uint64) ([]*api.DurableEvent, Meta) {
	r := sn.read()
	events := []*api.DurableEvent{}
	for e := range r.eventsOf(name, since) {
		out := e.api()
		events = append(events, &out)
	}
	return events, r.meta(eventWatch(name))
}

// EventLogAcks is EventLog with the number of acknowledgements.
func (sn *Snapshot) EventLogAcks(name string, since uint64) ([]*api.EventAcks, Meta) {
	r := sn.read()
	events := []*api.EventAcks{}
	watches := []Watch{eventWatch(name)}
	for e := range r.eventsOf(name, since) {
		events = append(events, &api.EventAcks{DurableEvent: e.api(), Acks: e.Acks})
		watches = append(watches, Watch{Topic: topicEventAcks, Key: e.ID})
	}
	return events, r.meta(watches...)
}

func eventWatch(name string) Watch {
	if name == "" {
		return watchTopic(topicEvents)
	}
	return Watch{Topic: topicEvent, Key: name}
}

func (r reader) eventsOf(name string, since uint64) iter.Seq[*event] {
	rows := scan[event](r, tableEvents, "id_prefix", nil)
	if name != "" {
		rows = scan[event](r, tableEvents, "name", keyOf(name))
	}
	return func(yield func(*event) bool) {
		for e := range rows {
			if e.Index > since && !yield(e) {
				return
			}
		}
	}
}

// EventAcks returns a durable event and who has acknowledged it, in order of
// names; nil where there is none.
func (sn *Snapshot) EventAcks(id string) (*api.EventAcks, Meta) {
	r := sn.read()
	meta := r.meta(Watch{Topic: topicEventAcks, Key: id})
	e := r.event(id)
	if e == nil {
		return nil, meta
	}
	out := &api.EventAcks{DurableEvent: e.api(), Acks: e.Acks, AckedBy: []string{}}
	for a := range r.acksOf(id) {
		out.AckedBy = append(out.AckedBy, a.Node)
	}
	return out, meta
}
