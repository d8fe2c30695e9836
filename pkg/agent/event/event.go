// Package event keeps the user events at one agent for those who ask for them.
//
// What it promises:
//
//   - An event that was fired is in the list of every live agent that its filters
//     match, once, mostly within milliseconds. It travels as a message of package
//     bus, which says what may get lost.
//
//   - An agent keeps the last Max events. A caller that waits for one costs no
//     goroutine but its own, and no memory once it has returned. All callers that
//     wait for one name share the answer and its encoding.
//
//   - On the wire an event is what the reference's agents send and understand.
//
// It starts no goroutine.
package event

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
	"github.com/muster-dev/muster/pkg/broadcast"
)

const (
	// Prefix begins the names of messages that are events.
	Prefix = "consul:event:"
	// Max is how many events an agent keeps.
	Max = 256

	// version is the version of the events we send, and the newest we accept.
	version = 1
	// remoteExec is the event with which the reference's exec tool starts a job. It
	// is passed to Config.RemoteExec and not stored.
	remoteExec = "_rexec"
)

// Config is what a Ring needs from its agent.
type Config struct {
	NodeName string
	// Services returns the services of this agent, by id, for the filters.
	Services func() map[string]*api.AgentService
	// Publish sends a message to every agent, this one included.
	Publish func(name string, payload []byte) error
	// RemoteExec handles the events of the reference's exec tool that match this
	// node. It must return quickly; nil drops them.
	RemoteExec func(api.Event)
	Logger     *slog.Logger
}

// Ring keeps the last events at one agent. It is safe for concurrent use.
type Ring struct {
	cfg Config

	mu      sync.Mutex
	events  []*api.Event      // oldest first; an event is never changed
	queries map[string]*query // by name; those that have users
}

// New makes an empty ring.
func New(cfg Config) *Ring {
	return &Ring{cfg: cfg, queries: map[string]*query{}}
}

// query is shared by the callers that ask for one name ("" for all).
type query struct {
	users   int
	list    *List // nil until it is made after the last event
	changed broadcast.Signal
}

// List is the events of a name, oldest first. It is shared and never changed.
type List struct {
	Events []*api.Event
	// Index identifies the newest event. Lists with different indexes differ; the
	// order of two indexes means nothing.
	Index uint64

	once sync.Once
	json []byte
}

// JSON is the list as the API answers it. It is encoded once.
func (l *List) JSON() []byte {
	l.once.Do(func() {
		var err error
		if l.json, err = json.Marshal(l.Events); err != nil {
			panic(err) // strings, bytes and numbers always encode
		}
	})
	return l.json
}

// Fire sends an event to every agent, and returns it with its id.
func (r *Ring) Fire(ev api.Event) (*api.Event, error) {
	if ev.TagFilter != "" && ev.ServiceFilter == "" {
		return nil, api.Errorf(http.StatusInternalServerError, "Cannot provide tag filter without service filter")
	}
	if _, err := filtersOf(ev); err != nil {
		return nil, api.Errorf(http.StatusInternalServerError, "%v", err)
	}
	ev.ID, ev.Version, ev.LTime = uuid.NewString(), version, 0
	payload, err := encode(ev)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", ev.Name, err)
	}
	if err := r.cfg.Publish(Prefix+ev.Name, payload); err != nil {
		return nil, fmt.Errorf("error broadcasting event: %w", err)
	}
	return &ev, nil
}

// Receive handles a message of the bus.
func (r *Ring) Receive(m bus.Message) {
	ev, err := decode(m)
	if err != nil {
		r.cfg.Logger.Warn("event cannot be read", "message", m.Name, "error", err)
		return
	}
	if !r.matches(ev) {
		return
	}
	if ev.Name == remoteExec {
		if r.cfg.RemoteExec != nil {
			r.cfg.RemoteExec(*ev)
		}
		return
	}
	r.cfg.Logger.Debug("event", "name", ev.Name, "id", ev.ID)
	r.add(ev)
}

// matches says whether the event's filters match this node and its services.
func (r *Ring) matches(ev *api.Event) bool {
	f, err := filtersOf(*ev)
	if err != nil {
		r.cfg.Logger.Warn("event has an invalid filter", "name", ev.Name, "id", ev.ID, "error", err)
		return false
	}
	if f.node != nil && !f.node.MatchString(r.cfg.NodeName) {
		return false
	}
	if f.service == nil {
		return true
	}
	for id, svc := range r.cfg.Services() {
		if f.service.MatchString(id) && (f.tag == nil || slices.ContainsFunc(svc.Tags, f.tag.MatchString)) {
			return true
		}
	}
	return false
}

// add adds an event and wakes those who wait for it.
func (r *Ring) add(ev *api.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) >= Max {
		r.events = append(make([]*api.Event, 0, 2*Max), r.events[len(r.events)-Max+1:]...)
	}
	r.events = append(r.events, ev)
	for _, name := range []string{"", ev.Name} {
		if q := r.queries[name]; q != nil {
			q.list = nil
			q.changed.Notify()
		}
	}
}

// List returns the events of a name, "" for all. With an index above zero it waits
// until the list has another index. When ctx ends it returns the list as it is,
// with ctx's cause.
func (r *Ring) List(ctx context.Context, name string, index uint64) (*List, error) {
	q := r.acquire(name)
	defer r.release(name, q)
	for {
		list, changed := r.read(name, q)
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

// acquire returns the query of a name with one more user.
func (r *Ring) acquire(name string) *query {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queries[name]
	if q == nil {
		q = &query{}
		r.queries[name] = q
	}
	q.users++
	return q
}

// release drops a query that has no user any more.
func (r *Ring) release(name string, q *query) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(r.queries, name)
	}
}

// read returns the list as it is now, and a channel that is closed when it changes.
func (r *Ring) read(name string, q *query) (*List, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.list == nil {
		q.list = &List{Events: []*api.Event{}, Index: 1}
		for _, ev := range r.events[max(0, len(r.events)-Max):] {
			if name == "" || ev.Name == name {
				q.list.Events = append(q.list.Events, ev)
				q.list.Index = indexOf(ev.ID)
			}
		}
	}
	return q.list, q.changed.Changed()
}

// indexOf makes an index of an event's id: the exclusive or of its two halves.
func indexOf(id string) uint64 {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != 16 {
		return 1 // decode accepts no such id
	}
	var hi, lo uint64
	for i := range 8 {
		hi, lo = hi<<8|uint64(raw[i]), lo<<8|uint64(raw[8+i])
	}
	return max(hi^lo, 1)
}

type filters struct{ node, service, tag *regexp.Regexp }

// filtersOf compiles an event's filters; nil for those that are empty.
func filtersOf(ev api.Event) (f filters, err error) {
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

// wire is an event as it travels. The keys are the reference's.
type wire struct {
	ID            string
	Name          string `codec:"n"`
	Payload       []byte `codec:"p,omitempty"`
	NodeFilter    string `codec:"nf,omitempty"`
	ServiceFilter string `codec:"sf,omitempty"`
	TagFilter     string `codec:"tf,omitempty"`
	Version       int    `codec:"v"`
}

func encode(ev api.Event) ([]byte, error) {
	var out []byte
	err := codec.NewEncoderBytes(&out, new(codec.MsgpackHandle)).Encode(wire{
		ev.ID, ev.Name, ev.Payload, ev.NodeFilter, ev.ServiceFilter, ev.TagFilter, ev.Version,
	})
	return out, err
}

func decode(m bus.Message) (*api.Event, error) {
	var w wire
	if err := codec.NewDecoderBytes(m.Payload, new(codec.MsgpackHandle)).Decode(&w); err != nil {
		return nil, err
	}
	if w.Version > version {
		return nil, fmt.Errorf("its version is %d, and %d the newest that is known here", w.Version, version)
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
