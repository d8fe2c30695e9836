package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/query"
	"github.com/muster-dev/muster/pkg/watch"
)

// Spec is one watch: what is watched, and its handler. The keys are those of the agent's
// watches; the last block is muster's own.
type Spec struct {
	Type        string   `conf:"type"`
	Key         string   `conf:"key"`
	Prefix      string   `conf:"prefix"`
	Service     string   `conf:"service"`
	Tags        []string `conf:"tag"`
	PassingOnly *bool    `conf:"passingonly"`
	State       string   `conf:"state"`
	Name        string   `conf:"name"`
	Filter      string   `conf:"filter"`
	Datacenter  string   `conf:"datacenter"`
	Token       string   `conf:"token"`
	Stale       bool     `conf:"stale"`

	Args        []string `conf:"args"`
	Handler     string   `conf:"handler"` // deprecated in the agent: a command for a shell
	HandlerType string   `conf:"handler_type"`
	HTTP        *HTTP    `conf:"http_handler_config"`

	Shell       *bool         `conf:"shell"`        // see proc.Resolve
	Durable     bool          `conf:"durable"`      // type event: events that the servers keep, acknowledged when delivered
	Changes     bool          `conf:"changes"`      // the handler gets additions, modifications and deletions
	KeepValues  bool          `conf:"keep_values"`  // on disk, so that changes have their old value even after a restart
	Initial     Initial       `conf:"initial"`      // "" is if-changed
	Overlap     Overlap       `conf:"overlap"`      // "" is coalesce
	Settle      time.Duration `conf:"settle"`       // time without a change before a delivery
	Timeout     time.Duration `conf:"timeout"`      // of one run of the handler; 0: none
	KillTimeout time.Duration `conf:"kill_timeout"` // from SIGTERM to SIGKILL; 0: 5 s
	Attempts    int           `conf:"attempts"`     // failed runs after which a change is a dead letter; 0: never
	DeadLetters string        `conf:"dead_letters"` // file that dead letters are appended to
}

// Initial says whether the state at the start of a watch is delivered.
type Initial string

// The values of Initial.
const (
	InitialNever     Initial = "never"
	InitialIfChanged Initial = "if-changed" // unless it was delivered last
	InitialAlways    Initial = "always"
)

// Overlap says what happens to changes that come while a handler runs.
type Overlap string

// The values of Overlap.
const (
	OverlapQueue    Overlap = "queue"    // each gets a run of its own, in order
	OverlapCoalesce Overlap = "coalesce" // one run for the newest state, or for all events
	OverlapKill     Overlap = "kill"     // as coalesce, and the running handler is killed
)

// The types of watches.
const (
	typeKey       = "key"
	typeKeyPrefix = "keyprefix"
	typeServices  = "services"
	typeNodes     = "nodes"
	typeService   = "service"
	typeChecks    = "checks"
	typeEvent     = "event"
)

// parameters lists what each type allows beside datacenter, token and stale.
func parameters() map[string][]string {
	return map[string][]string{
		typeKey:       {"key"},
		typeKeyPrefix: {"prefix"},
		typeServices:  {"filter"},
		typeNodes:     {"filter"},
		typeService:   {"service", "tag", "passingonly", "filter"},
		typeChecks:    {"service", "state", "filter"},
		typeEvent:     {"name", "durable"},
	}
}

// checkTarget checks the type and its parameters. The errors are worded as in the
// reference.
func (s *Spec) checkTarget() error {
	if s.Type == "" {
		return errors.New("Watch type must be specified")
	}
	allowed, ok := parameters()[s.Type]
	if !ok {
		return fmt.Errorf("Unsupported watch type: %s", s.Type)
	}
	switch {
	case s.Type == typeKey && s.Key == "":
		return errors.New("Must specify a single key to watch")
	case s.Type == typeKeyPrefix && s.Prefix == "":
		return errors.New("Must specify a single prefix to watch")
	case s.Type == typeService && s.Service == "":
		return errors.New("Must specify a single service to watch")
	case s.Type == typeChecks && s.Service != "" && s.State != "":
		return errors.New("Cannot specify service and state")
	case !slices.Contains([]string{"", "any", "passing", "warning", "critical"}, s.State):
		return fmt.Errorf("Unsupported state: %s", s.State)
	}
	var invalid []string
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"key", s.Key != ""}, {"prefix", s.Prefix != ""}, {"service", s.Service != ""}, {"tag", len(s.Tags) > 0},
		{"passingonly", s.PassingOnly != nil}, {"state", s.State != ""}, {"name", s.Name != ""}, {"durable", s.Durable}, {"filter", s.Filter != ""},
	} {
		if p.set && !slices.Contains(allowed, p.name) {
			invalid = append(invalid, p.name)
		}
	}
	if len(invalid) > 0 {
		return fmt.Errorf("Invalid parameters: %v", invalid)
	}
	return nil
}

// Check checks a watch, apart from its handler.
func (s *Spec) Check() error {
	if err := s.checkTarget(); err != nil {
		return err
	}
	if s.Type == typeKey || s.Type == typeKeyPrefix {
		if _, ok := s.named().Path(); !ok {
			return fmt.Errorf("%q leads out of the key/value store: a key is written as app/name, without . and ..", s.Key+s.Prefix)
		}
	}
	switch {
	case !slices.Contains([]Initial{"", InitialNever, InitialIfChanged, InitialAlways}, s.Initial):
		return fmt.Errorf("initial is %q: want never, if-changed or always", s.Initial)
	case !slices.Contains([]Overlap{"", OverlapQueue, OverlapCoalesce, OverlapKill}, s.Overlap):
		return fmt.Errorf("overlap is %q: want queue, coalesce or kill", s.Overlap)
	case s.Settle < 0 || s.Timeout < 0 || s.KillTimeout < 0:
		return errors.New("a duration is below zero")
	case s.Attempts < 0:
		return errors.New("attempts is below zero")
	case s.KeepValues && !s.Changes:
		return errors.New("keep_values goes with changes: nothing else needs old values")
	case s.DeadLetters != "" && s.Attempts == 0:
		return errors.New("dead_letters needs attempts: the number of failed runs after which a change is one")
	}
	return nil
}

// CheckHandler checks a watch's handler. The errors are worded as in the reference.
func (s *Spec) CheckHandler() error {
	script, http := len(s.Args) > 0 || s.Handler != "", s.HTTP != nil
	switch {
	case len(s.Args) > 0 && s.Handler != "", script && http:
		return errors.New("Only one watch handler allowed")
	case s.HandlerType != "" && s.HandlerType != "script" && s.HandlerType != "http":
		return fmt.Errorf("Handler type '%s' not recognized", s.HandlerType)
	case !script && !http, s.HandlerType == "http" && !http, s.HandlerType == "script" && !script:
		return errors.New("Must define a watch handler")
	case http:
		return s.HTTP.check()
	}
	return nil
}

// Request is what the watch reads.
func (s *Spec) Request() watch.Request {
	q, params := watch.Request{}, url.Values{}
	set := func(name, value string) {
		if value != "" {
			params.Set(name, value)
		}
	}
	switch s.Type {
	case typeKey:
		q.Path, _ = s.named().Path() // Check has found one
	case typeKeyPrefix:
		q.Path, _ = s.named().Path()
		params.Set("recurse", "")
	case typeServices:
		q.Path = "/v1/catalog/services"
	case typeNodes:
		q.Path = "/v1/catalog/nodes"
	case typeService:
		q.Path = "/v1/health/service/" + s.Service
		params["tag"] = s.Tags
		if s.PassingOnly != nil && *s.PassingOnly {
			params.Set("passing", "1")
		}
	case typeChecks:
		switch {
		case s.Service != "":
			q.Path = "/v1/health/checks/" + s.Service
		case s.State != "":
			q.Path = "/v1/health/state/" + s.State
		default:
			q.Path = "/v1/health/state/any"
		}
	case typeEvent:
		q.Path = "/v1/event/list"
		if s.Durable {
			q.Path = "/v1/event/log"
		}
		set("name", s.Name)
	}
	set("filter", s.Filter)
	set("dc", s.Datacenter)
	q.Params = params.Encode()
	return q
}

// named is the query of a watch of a key or a prefix.
func (s *Spec) named() query.Query {
	if s.Type == typeKey {
		return query.Query{Kind: query.KindKey, Name: strings.TrimPrefix(s.Key, "/")}
	}
	return query.Query{Kind: query.KindPrefix, Name: strings.TrimPrefix(s.Prefix, "/")}
}

// addParam adds one to parameters as url.Values.Encode writes them.
func addParam(params, name string, value uint64) string {
	one := name + "=" + strconv.FormatUint(value, 10)
	if params == "" {
		return one
	}
	return params + "&" + one
}

// String names a watch in messages.
func (s *Spec) String() string {
	out := s.Type
	for _, p := range []string{s.Key, s.Prefix, s.Service, s.State, s.Name} {
		if p != "" {
			out += " " + strconv.Quote(p)
		}
	}
	return out
}

// identity tells watches apart: two with the same identity read the same from the same
// agent for the same handler. How the handler runs is not a part of it, but Changes is.
func (s *Spec) identity(address string) identity {
	id := identity{Address: address, Type: s.Type, Query: s.Request().String(), Changes: s.Changes}
	switch {
	case s.HTTP != nil:
		id.Handler = []string{s.HTTP.method(), s.HTTP.Path}
	case s.Handler != "":
		id.Handler = []string{s.Handler}
	default:
		id.Handler = s.Args
	}
	return id
}

type identity struct {
	Address string
	Type    string
	Query   string
	Handler []string
	Changes bool `json:",omitempty"`
}

// bytes encodes an identity, as a key and to be hashed.
func (i identity) bytes() []byte {
	out, _ := json.Marshal(i)
	return out
}

// Read turns the entries of a list of watches into Specs; name is that of the
// list, for errors.
func Read(name string, entries []map[string]any) ([]Spec, error) {
	if len(entries) > MaxWatches {
		return nil, fmt.Errorf("%s: %d watches are more than %d", name, len(entries), MaxWatches)
	}
	out := make([]Spec, len(entries))
	for i, entry := range entries {
		at := fmt.Sprintf("%s[%d]", name, i)
		fitted, err := conf.Check(at, entry, Spec{})
		if err != nil {
			return nil, err
		}
		if err := conf.Decode(fitted.Map, &out[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if err := errors.Join(out[i].Check(), out[i].CheckHandler()); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
	}
	return out, nil
}
