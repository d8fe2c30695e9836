package operator

import (
	"context"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
)

func TestEvent(t *testing.T) {
	fire := func(f EventFlags, args ...string) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return Event(ctx, c, s.out, f, args)
		}
	}
	const id = `{"ID":"20c90acd-3f28-4c02-84f1-7304d8629386"}`
	const printed = "Event ID: 20c90acd-3f28-4c02-84f1-7304d8629386\n"
	for _, e := range []exchange{
		{
			name:  "plain",
			agent: map[string]reply{"PUT /v1/event/fire/a/b": {body: id}},
			run:   fire(EventFlags{Name: "a/b"}), out: printed, bodies: []string{""},
		},
		{
			name:  "payload and filters",
			agent: map[string]reply{"PUT /v1/event/fire/x?node=n&service=%5Ew&tag=t": {body: id}},
			run:   fire(EventFlags{Name: "x", Node: "n", Service: "^w", Tag: "t"}, "-"), out: printed, bodies: []string{"-"},
		},
		{
			name:  "refused",
			agent: map[string]reply{"PUT /v1/event/fire/x": {code: 500, body: "too large"}},
			run:   fire(EventFlags{Name: "x"}), err: "Error firing event: Unexpected response code: 500 (too large)", code: 1, bodies: []string{""},
		},
		{
			name:  "durable",
			agent: map[string]reply{"PUT /v1/event/fire/x?durable=&ttl=24h0m0s": {body: `{"Index":7,` + id[1:]}},
			run:   fire(EventFlags{Name: "x", Durable: true, TTL: 24 * time.Hour}, "v1"), out: printed, bodies: []string{"v1"},
		},
		{
			name:  "durable, by an agent that fires what it can",
			agent: map[string]reply{"PUT /v1/event/fire/x?durable=": {body: id}},
			run:   fire(EventFlags{Name: "x", Durable: true}), bodies: []string{""}, code: 1,
			err: "Error firing event: this agent is none of muster's and has no durable events: it was fired as a user event, 20c90acd-3f28-4c02-84f1-7304d8629386",
		},
		{
			name: "log",
			agent: map[string]reply{"GET /v1/event/log?acks=&name=x&since=0": {
				body: `[{"Index":7,"ID":"i","Name":"x\u001b","Time":"2026-01-02T03:04:05Z","Expires":"2026-01-02T04:04:05Z","Acks":2}]`,
			}},
			run: fire(EventFlags{Name: "x", Log: true}),
			out: "Index  ID  Name  Fired                Expires              Acks\n7      i   x?    " + local(2, 3) + "  " + local(2, 4) + "  2\n",
		},
		{name: "log and more", run: fire(EventFlags{Log: true}, "x"), err: "-log takes -name and nothing else", code: 1},
		{name: "ttl alone", run: fire(EventFlags{Name: "x", TTL: 1}), err: "-ttl is for durable events: give -durable too.", code: 1},
		{name: "durable and filtered", run: fire(EventFlags{Name: "x", Durable: true, Node: "n"}), err: "A durable event has no filters: its readers choose it by name.", code: 1},
		{name: "no name", run: fire(EventFlags{}, "a", "b"), err: "Event name must be specified", code: 1},
		{name: "two payloads", run: fire(EventFlags{Name: "x"}, "a", "b"), err: "Too many command line arguments.", code: 1},
		{name: "tag alone", run: fire(EventFlags{Name: "x", Tag: "t"}), err: "Cannot provide tag filter without service filter.", code: 1},
		{
			name: "bad filter", run: fire(EventFlags{Name: "x", Service: "("}), code: 1,
			err: "Failed to compile service filter regexp: error parsing regexp: missing closing ): `(`",
		},
	} {
		t.Run(e.name, e.test)
	}
}

// local is how a moment of January 2026 is printed.
func local(day, hour int) string {
	return time.Date(2026, 1, day, hour, 4, 5, 0, time.UTC).Local().Format(time.DateTime)
}
