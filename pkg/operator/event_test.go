package operator

import (
	"context"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

func TestFireEvent(t *testing.T) {
	fire := func(f EventFlags, args ...string) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return FireEvent(ctx, c, s.out, f, args)
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
