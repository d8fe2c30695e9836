package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/watch"
)

// update is what one result brings: the new state of the watched data, or events, in the
// form that handlers get. It is immutable.
type update struct {
	index uint64
	items []item
	form  form
}

// item is one element of an update: a key, a service, a check.
type item struct {
	Key  string          // its name in changes
	Data json.RawMessage `json:",omitempty"` // in the form of the reference's handlers
	Hash string          `json:",omitempty"` // of Data, where values are not kept
	at   uint64          // of a durable event: its index
}

// form is how an update is written.
type form uint8

const (
	one        form = iota // the item alone, null if there is none
	list                   // an array
	listOrNull             // an array, null if it is empty
	object                 // an object, by the items' keys
)

// body is the JSON of an update.
func (v update) body() []byte {
	switch {
	case len(v.items) == 0 && (v.form == one || v.form == listOrNull):
		return []byte("null")
	case v.form == one:
		return v.items[0].Data
	}
	opens, ends := "[", "]"
	if v.form == object {
		opens, ends = "{", "}"
	}
	var b bytes.Buffer
	b.WriteString(opens)
	for i, it := range v.items {
		if i > 0 {
			b.WriteByte(',')
		}
		if v.form == object {
			name, _ := json.Marshal(it.Key) // a string
			b.Write(name)
			b.WriteByte(':')
		}
		b.Write(it.Data)
	}
	b.WriteString(ends)
	return b.Bytes()
}

// The types below are the input of the reference's handlers. They are the structs of its
// client: their fields have another order than in the HTTP API.

type kvPair struct {
	Key         string
	CreateIndex uint64
	ModifyIndex uint64
	LockIndex   uint64
	Flags       uint64
	Value       []byte
	Session     string
}

type healthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Definition  checkDefinition
	CreateIndex uint64
	ModifyIndex uint64
}

type checkDefinition struct {
	Interval                       string
	Timeout                        string
	DeregisterCriticalServiceAfter string
	HTTP                           string
	Header                         map[string][]string
	Method                         string
	Body                           string
	TLSSkipVerify                  bool
	TCP                            string
}

type serviceEntry struct {
	Node    *api.Node
	Service serviceInstance
	Checks  []healthCheck
}

type serviceInstance struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                        `json:",omitempty"`
	TaggedAddresses   map[string]api.ServiceAddress `json:",omitempty"`
	Weights           api.Weights
	EnableTagOverride bool
	CreateIndex       uint64
	ModifyIndex       uint64
	Proxy             struct {
		MeshGateway api.Empty
		Expose      api.Empty
	}
	Connect api.Empty
}

// updateOf makes the update of a result.
func updateOf(r watch.Result) (update, error) {
	v := update{index: r.Index, form: list}
	var err error
	switch value := r.Value.(type) {
	case *api.KVPair:
		v.form = one
		if value != nil {
			v.items, err = itemsOf([]*api.KVPair{value}, pairItem)
		}
	case []*api.KVPair:
		v.form = listOrNull
		v.items, err = itemsOf(value, pairItem)
	case map[string][]string:
		v.form = object
		v.items, err = itemsOf(namesOf(value), func(name string) (string, any) { return name, value[name] })
	case []*api.Node:
		v.items, err = itemsOf(value, func(n *api.Node) (string, any) { return n.Node, n })
	case []*api.CheckServiceNode:
		v.items, err = itemsOf(value, entryItem)
	case []*api.HealthCheck:
		v.items, err = itemsOf(value, func(c *api.HealthCheck) (string, any) { return c.Node + "/" + c.CheckID, checkOf(c) })
	case []*api.Event:
		v.items, err = itemsOf(value, func(e *api.Event) (string, any) { return e.ID, e })
	case []*api.DurableEvent:
		v.items, err = itemsOf(value, func(e *api.DurableEvent) (string, any) { return e.ID, e })
		for i := range v.items {
			v.items[i].at = value[i].Index
		}
	default:
		return v, fmt.Errorf("no watch has an answer of type %T", r.Value)
	}
	return v, err
}

// itemsOf encodes elements; convert gives the key and the value to encode.
func itemsOf[T any](from []T, convert func(T) (string, any)) ([]item, error) {
	out := make([]item, 0, len(from))
	for _, t := range from {
		key, value := convert(t)
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode %q: %w", key, err)
		}
		out = append(out, item{Key: key, Data: data})
	}
	return out, nil
}

func pairItem(p *api.KVPair) (string, any) {
	return p.Key, kvPair{p.Key, p.CreateIndex, p.ModifyIndex, p.LockIndex, p.Flags, p.Value, p.Session}
}

func entryItem(e *api.CheckServiceNode) (string, any) {
	s := e.Service
	out := serviceEntry{Node: e.Node, Checks: make([]healthCheck, len(e.Checks)), Service: serviceInstance{
		Kind: s.Kind, ID: s.ID, Service: s.Service, Tags: s.Tags, Meta: s.Meta, Port: s.Port, Address: s.Address,
		SocketPath: s.SocketPath, TaggedAddresses: s.TaggedAddresses, Weights: s.Weights,
		EnableTagOverride: s.EnableTagOverride, CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex,
	}}
	for i, c := range e.Checks {
		out.Checks[i] = checkOf(c)
	}
	return e.Node.Node + "/" + s.ID, out
}

func checkOf(c *api.HealthCheck) healthCheck {
	d := c.Definition
	return healthCheck{
		Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, Notes: c.Notes, Output: c.Output,
		ServiceID: c.ServiceID, ServiceName: c.ServiceName, ServiceTags: c.ServiceTags, Type: c.Type,
		Definition: checkDefinition{
			Interval: d.Interval.String(), Timeout: d.Timeout.String(),
			DeregisterCriticalServiceAfter: d.DeregisterCriticalServiceAfter.String(),
			HTTP:                           d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, TLSSkipVerify: d.TLSSkipVerify, TCP: d.TCP,
		},
		CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex,
	}
}

func namesOf(m map[string][]string) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
