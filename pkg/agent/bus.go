package agent

import (
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/event"
	"github.com/muster-dev/muster/pkg/api"
)

// makeBus makes the bus and its receivers. They must expect messages before the agent is
// ready.
func (a *Agent) makeBus(transport http.RoundTripper) {
	a.bus = bus.New(bus.Config{
		Server:    a.cfg.Server,
		Gossip:    a.pool,
		Transport: transport,
		Servers:   a.otherServers,
		Receivers: []bus.Receiver{
			{Prefix: event.Prefix, Receive: func(m bus.Message) { a.events.Receive(m) }},
			{Prefix: callName, Receive: a.called},
		},
		Logger: a.log,
	})
	a.events = event.New(event.Config{
		NodeName: a.cfg.NodeName,
		Services: a.ownServices,
		Publish:  a.bus.Publish,
		RemoteExec: func(e api.Event) {
			if a.ready.Load() {
				a.runner.HandleEvent(e)
			}
		},
		Logger: a.log,
	})
}

// ownServices returns the services of this agent; none until it is ready.
func (a *Agent) ownServices() map[string]*api.AgentService {
	if !a.ready.Load() {
		return nil
	}
	return a.local.Services()
}
