package jobs

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/api"
)

const (
	// EventPrefix begins the names of messages that are events.
	EventPrefix = "consul:event:"
	// MaxEvents is how many events an agent keeps.
	MaxEvents = 256

	// eventVersion is what we send, and the newest that we understand.
	eventVersion = 1
	// remoteExec is the event by which the reference's exec tool starts a job. It
	// is consumed, never stored.
	remoteExec = "_rexec"
)

// EventConfig is what events need of the agent.
type EventConfig struct {
	NodeName string
	// Services are those of this agent, by id, which filters are held against.
	Services func() map[string]*api.AgentService
	// Publish sends a message to every agent, this one included.
	Publish func(name string, payload []byte) error
	// RemoteExec takes the events of the reference's exec tool, which are for this
	// node then. It must return quickly; nil drops them.
	RemoteExec func(api.Event)
	Logger     *slog.Logger
}

// Events are the user events at one agent. They are safe for concurrent use.
type Events struct {
	cfg EventConfig

	mu      sync.Mutex
	ring    []*api.Event           // oldest first; never changed once they are in
	waiting map[string]*eventQuery // by name, as long as somebody asks
}

// NewEvents makes an agent's events.
func NewEvents(cfg EventConfig) *Events {
	return &Events{cfg: cfg, waiting: map[string]*eventQuery{}}
}

// eventQuery is shared by those who ask for one name ("" for all).
type eventQuery struct {
	users   int
	list    *EventList    // nil until somebody has looked since the last event
	changed chan struct{} // closed at the next event
}

// EventList is an answer: the events of a name, oldest first. It is shared and
// never changed.
type EventList struct {
	Events []*api.Event
	// Index stands for the newest event; another one is another list. It says
	// nothing of older or newer.
	Index uint64

	once sync.Once
	json []byte
}

// JSON is the list as the API answers it, encoded once.
func (l *EventList) JSON() []byte {
	l.once.Do(func() {
		var err error
		if l.json, err = json.Marshal(l.Events); err != nil {
			panic(err) // strings, bytes and numbers always encode
		}
	})
	return l.json
}

// Fire sends an event to every agent, and gives it back with its id.
func (e *Events) Fire(ev api.Event) (*api.Event, error) {
	if ev.TagFilter != "" && ev.ServiceFilter == "" {
		return nil, api.Errorf(http.StatusInternalServerError, "Cannot provide tag filter without service filter")
	}
	if _, err := filtersOf(ev); err != nil {
		return nil, api.Errorf(http.StatusInternalServerError, "%v", err)
	}
	ev.ID, ev.Version, ev.LTime = uuid.NewString(), eventVersion, 0
	payload, err := encodeEvent(ev)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", ev.Name, err)
	}
	if err := e.cfg.Publish(EventPrefix+ev.Name, payload); err != nil {
		return nil, fmt.Errorf("error broadcasting event: %w", err)
	}
	return &ev, nil
}

// Receive takes a message of the bus.
func (e *Events) Receive(m bus.Message) {
	ev, err := decodeEvent(m)
	if err != nil {
		e.cfg.Logger.Warn("event cannot be read", "message", m.Name, "error", err)
		return
	}
	if !e.forMe(ev) {
		return
	}
	if ev.Name == remoteExec {
		if e.cfg.RemoteExec != nil {
			e.cfg.RemoteExec(*ev)
		}
		return
	}
	e.cfg.Logger.Debug("event", "name", ev.Name, "id", ev.ID)
	e.keep(ev)
}

// forMe holds the filters against this node and its services.
func (e *Events) forMe(ev *api.Event) bool {
	f, err := filtersOf(*ev)
	if err != nil {
		e.cfg.Logger.Warn("event is not for anybody", "name", ev.Name, "id", ev.ID, "error", err)
		return false
	}
	if f.node != nil && !f.node.MatchString(e.cfg.NodeName) {
		return false
	}
	if f.service == nil {
		return true
	}
	for id, svc := range e.cfg.Services() {
		if f.service.MatchString(id) && (f.tag == nil || slices.ContainsFunc(svc.Tags, f.tag.MatchString)) {
			return true
		}
	}
	return false
}

// keep adds an event and wakes those who wait for it.
func (e *Events) keep(ev *api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ring) >= MaxEvents {
		e.ring = append(make([]*api.Event, 0, 2*MaxEvents), e.ring[len(e.ring)-MaxEvents+1:]...)
	}
	e.ring = append(e.ring, ev)
	for _, name := range []string{"", ev.Name} {
		if q := e.waiting[name]; q != nil {
			q.list = nil
			close(q.changed)
			q.changed = make(chan struct{})
		}
	}
}

// List returns the events of a name, "" for all. With an index it returns once
// the newest is another than the one of that index, or when ctx ends: then with
// the list as it is, and ctx's error.
func (e *Events) List(ctx context.Context, name string, index uint64) (*EventList, error) {
	q := e.enter(name)
	defer e.leave(name, q)
	for {
		list, changed := e.look(name, q)
		if index == 0 || list.Index != index {
			return list, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return list, context.Cause(ctx)
		}
	}
}

func (e *Events) enter(name string) *eventQuery {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.waiting[name]
	if q == nil {
		q = &eventQuery{changed: make(chan struct{})}
		e.waiting[name] = q
	}
	q.users++
	return q
}

func (e *Events) leave(name string, q *eventQuery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(e.waiting, name)
	}
}

// look gives the list as it is now, and what is closed when it changes.
func (e *Events) look(name string, q *eventQuery) (*EventList, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.list == nil {
		q.list = &EventList{Events: []*api.Event{}, Index: 1}
		for _, ev := range e.ring[max(0, len(e.ring)-MaxEvents):] {
			if name == "" || ev.Name == name {
				q.list.Events = append(q.list.Events, ev)
				q.list.Index = indexOf(ev.ID)
			}
		}
	}
	return q.list, q.changed
}

// indexOf makes a number of an event's id: its two halves, one xor the other.
func indexOf(id string) uint64 {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != 16 {
		return 1 // decodeEvent lets none pass
	}
	var hi, lo uint64
	for i := range 8 {
		hi, lo = hi<<8|uint64(raw[i]), lo<<8|uint64(raw[8+i])
	}
	return max(hi^lo, 1)
}

type eventFilters struct{ node, service, tag *regexp.Regexp }

// filtersOf compiles an event's filters; nil for those that it has not.
func filtersOf(ev api.Event) (f eventFilters, err error) {
	for _, one := range []struct {
		what, text string
		to         **regexp.Regexp
	}{
		{"node", ev.NodeFilter, &f.node}, {"service", ev.ServiceFilter, &f.service}, {"tag", ev.TagFilter, &f.tag},
	} {
		if one.text == "" {
			continue
		}
		if *one.to, err = regexp.Compile(one.text); err != nil {
			return f, fmt.Errorf("Invalid %s filter: %w", one.what, err)
		}
	}
	return f, nil
}

// eventWire is an event as it travels. The keys are the reference's.
type eventWire struct {
	ID            string
	Name          string `codec:"n"`
	Payload       []byte `codec:"p,omitempty"`
	NodeFilter    string `codec:"nf,omitempty"`
	ServiceFilter string `codec:"sf,omitempty"`
	TagFilter     string `codec:"tf,omitempty"`
	Version       int    `codec:"v"`
}

func encodeEvent(ev api.Event) ([]byte, error) {
	var out []byte
	err := codec.NewEncoderBytes(&out, new(codec.MsgpackHandle)).Encode(eventWire{
		ev.ID, ev.Name, ev.Payload, ev.NodeFilter, ev.ServiceFilter, ev.TagFilter, ev.Version,
	})
	return out, err
}

func decodeEvent(m bus.Message) (*api.Event, error) {
	var w eventWire
	if err := codec.NewDecoderBytes(m.Payload, new(codec.MsgpackHandle)).Decode(&w); err != nil {
		return nil, err
	}
	if w.Version > eventVersion {
		return nil, fmt.Errorf("its version is %d, and %d the newest that is known here", w.Version, eventVersion)
	}
	id, err := uuid.Parse(w.ID)
	if err != nil || w.Name == "" {
		return nil, fmt.Errorf("its id is %q and its name %q", w.ID, w.Name)
	}
	return &api.Event{
		ID: id.String(), Name: w.Name, Payload: w.Payload, NodeFilter: w.NodeFilter,
		ServiceFilter: w.ServiceFilter, TagFilter: w.TagFilter, Version: w.Version, LTime: m.LTime,
	}, nil
}
