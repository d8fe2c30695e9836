package api

import "time"

// Event is a user event as GET /v1/event/list shows it and PUT /v1/event/fire/
// answers it. Filters are regular expressions; an agent that they do not match
// does not keep the event.
type Event struct {
	ID            string
	Name          string
	Payload       []byte
	NodeFilter    string
	ServiceFilter string
	TagFilter     string
	Version       int
	LTime         uint64
}

// Limits of durable events. A full log refuses more until one expires.
const (
	MaxDurableEvents     = 4096
	MaxDurableEventBytes = 16 << 20 // names and payloads of all together
	MaxEventPayload      = 64 << 10 // of a durable event
	MaxEventAcks         = 8192     // of one event

	MinEventTTL     = time.Second
	MaxEventTTL     = 30 * 24 * time.Hour
	DefaultEventTTL = time.Hour
)

// DurableEvent is an event that the servers keep until it expires. Index is its
// raft index: unique, and the order in which events were fired.
type DurableEvent struct {
	Index   uint64
	ID      string
	Name    string
	Payload []byte
	Time    time.Time // when it was fired
	Expires time.Time
}

// EventAcks is a durable event with the number of nodes that have acknowledged it.
// AckedBy names them in the answer for a single event.
type EventAcks struct {
	DurableEvent
	Acks    int
	AckedBy []string `json:",omitempty"`
}
