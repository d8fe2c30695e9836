package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// EventFlags are the flags of `event`: the filters are regular expressions.
type EventFlags struct {
	Name, Node, Service, Tag string

	Durable bool
	TTL     time.Duration // of a durable event; 0: an hour
	Log     bool          // list the durable events instead
}

func (f EventFlags) check(args []string) error {
	switch {
	case f.Log && (len(args) > 0 || f.Durable || f.TTL != 0 || f.filtered()):
		return refused("-log takes -name and nothing else")
	case f.Log:
		return nil
	case f.Name == "":
		return refused("Event name must be specified")
	case len(args) > 1:
		return refused("Too many command line arguments.")
	case f.Tag != "" && f.Service == "":
		return refused("Cannot provide tag filter without service filter.")
	case f.Durable && f.filtered():
		return refused("A durable event has no filters: its readers choose it by name.")
	case f.TTL != 0 && !f.Durable:
		return refused("-ttl is for durable events: give -durable too.")
	}
	for _, filter := range []struct{ what, text string }{{"node", f.Node}, {"service", f.Service}, {"tag", f.Tag}} {
		if _, err := regexp.Compile(filter.text); err != nil {
			return refused("Failed to compile %s filter regexp: %v", filter.what, err)
		}
	}
	return nil
}

func (f EventFlags) filtered() bool { return f.Node+f.Service+f.Tag != "" }

// Event fires an event, with at most one argument as its payload, and prints its id;
// or it lists the durable events.
func Event(ctx context.Context, c *client.Client, out io.Writer, f EventFlags, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	if f.Log {
		return eventLog(ctx, c, out, f.Name)
	}
	var payload []byte
	if len(args) == 1 {
		payload = []byte(args[0])
	}
	id, err := fire(ctx, c, f, payload)
	if err != nil {
		return failed(err, "Error firing event")
	}
	fmt.Fprintf(out, "Event ID: %s\n", id)
	return nil
}

func fire(ctx context.Context, c *client.Client, f EventFlags, payload []byte) (id string, err error) {
	if f.Durable {
		ev, err := c.EventFireDurable(ctx, f.Name, payload, f.TTL, nil)
		if err == nil && ev.Index == 0 {
			err = errors.New("this agent is none of muster's and has no durable events: it was fired as a user event, " + ev.ID)
		}
		return ev.ID, err
	}
	ev, err := c.EventFire(ctx, api.Event{
		Name: f.Name, Payload: payload, NodeFilter: f.Node, ServiceFilter: f.Service, TagFilter: f.Tag,
	}, nil)
	return ev.ID, err
}

func eventLog(ctx context.Context, c *client.Client, out io.Writer, name string) error {
	events, _, err := c.EventLogAcks(ctx, name, 0, nil)
	if err != nil {
		return queryFailed(err)
	}
	rows := [][]string{{"Index", "ID", "Name", "Fired", "Expires", "Acks"}}
	for _, ev := range events {
		rows = append(rows, []string{
			strconv.FormatUint(ev.Index, 10), ev.ID, ev.Name,
			ev.Time.Local().Format(time.DateTime), ev.Expires.Local().Format(time.DateTime), strconv.Itoa(ev.Acks),
		})
	}
	table(out, rows)
	return nil
}
