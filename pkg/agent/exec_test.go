package agent

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/logx"
)

// gossipOfOne hands back what is sent.
type gossipOfOne struct{ bus *bus.Bus }

func (g *gossipOfOne) UserEvent(name string, payload []byte) error {
	g.bus.Heard(bus.Message{Name: name, Payload: payload}, false)
	return nil
}

// Every job calls its targets, also one for the same nodes as a job before: the bus
// takes two messages that are equal for one.
func TestEveryJobCallsItsTargets(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprint("node-", i)
	}
	for name, nodes := range map[string][]string{"one": {"n1"}, "some": {"n1", "n2"}, "too many to be named": many} {
		t.Run(name, func(t *testing.T) {
			var got []bus.Message
			g := &gossipOfOne{}
			g.bus = bus.New(bus.Config{Gossip: g, Logger: logx.Discard(), Receivers: []bus.Receiver{
				{Prefix: callName, Receive: func(m bus.Message) { got = append(got, m) }},
			}})
			a := &Agent{bus: g.bus, log: logx.Discard()}
			for i := range 3 {
				a.call(fmt.Sprint("job-", i), nodes)
			}
			if len(got) != 3 {
				t.Fatalf("3 jobs made %d calls", len(got))
			}
			for _, m := range got {
				if len(m.Payload) > maxCall || !isCalled(m.Payload, nodes[0]) || !isCalled(m.Payload, nodes[len(nodes)-1]) {
					t.Errorf("call %q (%d bytes) is not for its nodes", m.Payload, len(m.Payload))
				}
				if len(nodes) < len(many) && isCalled(m.Payload, "other") {
					t.Errorf("call %q is for another node", m.Payload)
				}
			}
		})
	}
	for _, payload := range []string{"", `["n1"]`} {
		if !isCalled([]byte(payload), "n1") {
			t.Errorf("the call %q of a former version is not heard", payload)
		}
	}
}
