package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

func fire(a *agent, name, payload string) string {
	a.C.T.Helper()
	ev, err := a.EventFire(a.C.T.Context(), api.Event{Name: name, Payload: []byte(payload)}, nil)
	if err != nil {
		a.C.T.Fatalf("fire %s at %s: %v", name, a.Name, err)
	}
	return ev.ID
}

// hasOnce waits until every agent that runs has the event, and looks that none
// has it twice.
func hasOnce(c *cluster, name, id string) {
	c.T.Helper()
	for _, a := range c.Agents {
		if !a.Up() {
			continue
		}
		harness.Within(c.T, 10*time.Second, a.Name+" has the event "+name, func(ctx context.Context) error {
			list, _, err := a.EventList(ctx, name, nil)
			if err != nil {
				return err
			}
			if len(list) != 1 || list[0].ID != id || list[0].LTime == 0 {
				return fmt.Errorf("it has %d", len(list))
			}
			return nil
		})
	}
}

func TestEventsReachEveryAgentOnce(t *testing.T) {
	c := harness.Start(t, 3, 2)
	ids := map[string]string{}
	for _, a := range c.Agents {
		ids["from-"+a.Name] = fire(a, "from-"+a.Name, "x")
	}
	for name, id := range ids {
		hasOnce(c, name, id)
	}

	// A filter is held against the agents' own services.
	web := &api.AgentServiceRegistration{ID: "web-9", Name: "web", Tags: []string{"v2"}}
	if err := c.Agent("c2").ServiceRegister(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Agent("s2").EventFire(t.Context(), api.Event{Name: "filtered", ServiceFilter: "^web", TagFilter: "v2"}, nil); err != nil {
		t.Fatal(err)
	}
	after := fire(c.Agent("s2"), "after", "")
	hasOnce(c, "after", after)
	for _, a := range c.Agents {
		list, _, err := a.EventList(t.Context(), "filtered", nil)
		if want := a.Name == "c2"; err != nil || (len(list) == 1) != want {
			t.Errorf("%s keeps %d, %v", a.Name, len(list), err)
		}
	}

	// While nobody leads, and with no server at all, events go on.
	for _, s := range []string{"s1", "s2"} {
		c.Agent(s).Kill()
	}
	hasOnce(c, "leaderless", fire(c.Agent("c1"), "leaderless", ""))
	c.Agent("s3").Kill()
	hasOnce(c, "serverless", fire(c.Agent("c2"), "serverless", ""))

	// An agent that was away does not hear what was fired meanwhile as new.
	c.Agent("s1").Start()
	c.Agent("s2").Start()
	c.Agent("s3").Start()
	c.AwaitReady()
	c.Agent("c1").Kill()
	c.Agent("c1").Start()
	c.AwaitReady()
	hasOnce(c, "again", fire(c.Agent("c1"), "again", ""))
	for _, a := range c.Agents {
		list, _, err := a.EventList(t.Context(), "", nil)
		if err != nil {
			t.Error(err)
		}
		for _, ev := range list {
			if a.Name != "c2" && ev.Name != "again" {
				t.Errorf("%s, which started later, heard %s", a.Name, ev.Name)
			}
		}
	}
}

// A blocked list is answered by the event itself, soon.
func TestEventIsToldAtOnce(t *testing.T) {
	c := harness.Start(t, 1, 3)
	const rounds = 5
	type answer struct {
		at  time.Time
		err error
	}
	for round := range rounds {
		name := fmt.Sprint("e", round)
		answers := make(chan answer, len(c.Agents))
		for _, a := range c.Agents {
			go func() {
				list, _, err := a.EventList(t.Context(), name, &client.Options{Index: 1, Wait: 20 * time.Second})
				if err == nil && len(list) != 1 {
					err = fmt.Errorf("%s answers %d events", a.Name, len(list))
				}
				answers <- answer{time.Now(), err}
			}()
		}
		began := time.Now()
		fire(c.Agents[round%len(c.Agents)], name, "")
		for range c.Agents {
			if a := <-answers; a.err != nil {
				t.Error(a.err)
			} else if took := a.at.Sub(began); took > time.Second {
				t.Errorf("after %v", took)
			}
		}
	}
}

// Durable events are in every server's state, in one order, through a change of
// leader, until their time is over; and the nodes that have dealt with one are known.
func TestDurableEvents(t *testing.T) {
	c := harness.Start(t, 3, 1)
	ctx := t.Context()
	var fired []*api.DurableEvent
	for i, a := range c.Agents {
		ev, err := a.EventFireDurable(ctx, "deploy", fmt.Append(nil, i), 0, nil)
		if err != nil {
			t.Fatalf("fire at %s: %v", a.Name, err)
		}
		fired = append(fired, ev)
	}
	short, err := c.Agents[0].EventFireDurable(ctx, "deploy", nil, 3*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, meta, err := c.Agent("c1").EventLog(ctx, "deploy", fired[1].Index, nil)
	if err != nil || len(all) != 3 || all[0].ID != fired[2].ID || all[2].ID != short.ID || meta.Index != short.Index {
		t.Fatalf("%d events at %d, %v", len(all), meta.Index, err)
	}

	// A reader waits for the next one while the leader dies.
	type answer struct {
		list []*api.DurableEvent
		err  error
	}
	next := make(chan answer, 1)
	go func() {
		list, _, err := c.Agent("c1").EventLog(ctx, "deploy", short.Index, &client.Options{Index: meta.Index, Wait: time.Minute})
		next <- answer{list, err}
	}()
	lead := c.Leader()
	lead.Kill()
	var late *api.DurableEvent
	harness.Within(t, 30*time.Second, "an event can be fired again", func(ctx context.Context) error {
		late, err = c.Agent("c1").EventFireDurable(ctx, "deploy", []byte("late"), time.Hour, nil)
		return err
	})
	if a := <-next; a.err != nil || len(a.list) == 0 || a.list[0].Name != "deploy" || a.list[0].Index <= short.Index {
		t.Errorf("%+v, %v", a.list, a.err)
	}

	// Whoever has dealt with it says so; whoever asks learns of it.
	for range 2 {
		if err := c.Agent("c1").EventAck(ctx, late.ID, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Follower().EventAck(ctx, late.ID, "s1", nil); err != nil {
		t.Fatal(err)
	}
	acks, _, err := c.Agent("c1").EventAcks(ctx, late.ID, nil)
	if err != nil || fmt.Sprint(acks.Acks, acks.AckedBy) != "2 [c1 s1]" {
		t.Errorf("%+v, %v", acks, err)
	}

	// What is over is gone everywhere, the rest stays.
	lead.Start()
	c.AwaitReady()
	for _, a := range c.Agents {
		harness.Within(t, 20*time.Second, "the short one has expired at "+a.Name, func(ctx context.Context) error {
			list, _, err := a.EventLogAcks(ctx, "", 0, &client.Options{Stale: true})
			if err != nil {
				return err
			}
			if len(list) < 5 || list[0].ID != fired[0].ID || list[len(list)-1].ID != late.ID || list[len(list)-1].Acks != 2 {
				return fmt.Errorf("%d events", len(list))
			}
			for _, ev := range list {
				if ev.ID == short.ID {
					return errors.New("it is there")
				}
			}
			return nil
		})
	}
	if gone, _, err := c.Agent("c1").EventAcks(ctx, short.ID, nil); gone != nil || err != nil {
		t.Errorf("%+v, %v", gone, err)
	}
}
