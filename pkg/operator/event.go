package operator

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// EventFlags are the flags of `event`: the filters are regular expressions.
type EventFlags struct{ Name, Node, Service, Tag string }

// FireEvent sends a user event with args, one at most, as its payload, and
// prints its id.
func FireEvent(ctx context.Context, c *client.Client, out io.Writer, f EventFlags, args []string) error {
	ev := api.Event{Name: f.Name, NodeFilter: f.Node, ServiceFilter: f.Service, TagFilter: f.Tag}
	switch {
	case f.Name == "":
		return refuse("Event name must be specified")
	case len(args) > 1:
		return refuse("Too many command line arguments.")
	case f.Tag != "" && f.Service == "":
		return refuse("Cannot provide tag filter without service filter.")
	case len(args) == 1:
		ev.Payload = []byte(args[0])
	}
	for _, filter := range []struct{ what, text string }{{"node", f.Node}, {"service", f.Service}, {"tag", f.Tag}} {
		if _, err := regexp.Compile(filter.text); err != nil {
			return refuse("Failed to compile %s filter regexp: %v", filter.what, err)
		}
	}
	fired, err := c.EventFire(ctx, ev, nil)
	if err != nil {
		return failed(err, "Error firing event")
	}
	fmt.Fprintf(out, "Event ID: %s\n", fired.ID)
	return nil
}
