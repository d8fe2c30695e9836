package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func (a *agent) fire(name, payload string) string {
	a.c.t.Helper()
	ev, err := a.EventFire(a.c.t.Context(), api.Event{Name: name, Payload: []byte(payload)}, nil)
	if err != nil {
		a.c.t.Fatalf("fire %s at %s: %v", name, a.name, err)
	}
	return ev.ID
}

// hasOnce waits until every agent that runs has the event, and looks that none
// has it twice.
func (c *cluster) hasOnce(name, id string) {
	c.t.Helper()
	for _, a := range c.agents {
		if a.cmd == nil {
			continue
		}
		eventually(c.t, 10*time.Second, a.name+" has the event "+name, func(ctx context.Context) error {
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
	c := start(t, 3, 2)
	ids := map[string]string{}
	for _, a := range c.agents {
		ids["from-"+a.name] = a.fire("from-"+a.name, "x")
	}
	for name, id := range ids {
		c.hasOnce(name, id)
	}

	// A filter is held against the agents' own services.
	web := &api.AgentServiceRegistration{ID: "web-9", Name: "web", Tags: []string{"v2"}}
	if err := c.agent("c2").ServiceRegister(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if _, err := c.agent("s2").EventFire(t.Context(), api.Event{Name: "filtered", ServiceFilter: "^web", TagFilter: "v2"}, nil); err != nil {
		t.Fatal(err)
	}
	after := c.agent("s2").fire("after", "")
	c.hasOnce("after", after)
	for _, a := range c.agents {
		list, _, err := a.EventList(t.Context(), "filtered", nil)
		if want := a.name == "c2"; err != nil || (len(list) == 1) != want {
			t.Errorf("%s keeps %d, %v", a.name, len(list), err)
		}
	}

	// While nobody leads, and with no server at all, events go on.
	for _, s := range []string{"s1", "s2"} {
		c.agent(s).kill()
	}
	c.hasOnce("leaderless", c.agent("c1").fire("leaderless", ""))
	c.agent("s3").kill()
	c.hasOnce("serverless", c.agent("c2").fire("serverless", ""))

	// An agent that was away does not hear what was fired meanwhile as new.
	c.agent("s1").start()
	c.agent("s2").start()
	c.agent("s3").start()
	c.awaitReady()
	c.agent("c1").kill()
	c.agent("c1").start()
	c.awaitReady()
	c.hasOnce("again", c.agent("c1").fire("again", ""))
	for _, a := range c.agents {
		list, _, err := a.EventList(t.Context(), "", nil)
		if err != nil {
			t.Error(err)
		}
		for _, ev := range list {
			if a.name != "c2" && ev.Name != "again" {
				t.Errorf("%s, which started later, heard %s", a.name, ev.Name)
			}
		}
	}
}

// A blocked list is answered by the event itself, soon.
func TestEventIsToldAtOnce(t *testing.T) {
	c := start(t, 1, 3)
	const rounds = 5
	type answer struct {
		at  time.Time
		err error
	}
	for round := range rounds {
		name := fmt.Sprint("e", round)
		answers := make(chan answer, len(c.agents))
		for _, a := range c.agents {
			go func() {
				list, _, err := a.EventList(t.Context(), name, &client.Options{Index: 1, Wait: 20 * time.Second})
				if err == nil && len(list) != 1 {
					err = fmt.Errorf("%s answers %d events", a.name, len(list))
				}
				answers <- answer{time.Now(), err}
			}()
		}
		began := time.Now()
		c.agents[round%len(c.agents)].fire(name, "")
		for range c.agents {
			if a := <-answers; a.err != nil {
				t.Error(a.err)
			} else if took := a.at.Sub(began); took > time.Second {
				t.Errorf("after %v", took)
			}
		}
	}
}
