package operator

import (
	"context"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

const id1, id2 = "766f833f-05ff-4ac6-b85a-c7760bcd8e00", "short"

func TestCatalog(t *testing.T) {
	nodes := func(q NodesQuery) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error { return Nodes(ctx, c, s.out, s.warn, q) }
	}
	services := func(q ServicesQuery) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return Services(ctx, c, s.out, s.warn, q)
		}
	}
	datacenters := func(ctx context.Context, c *client.Client, s streams) error { return Datacenters(ctx, c, s.out) }
	const noNodes = "No nodes match the given query - try expanding your search.\n"
	const noServices = "No services match the given query - try expanding your search.\n"
	all := reply{body: `[
		{"ID":"` + id1 + `","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{"wan":"1.1.1.1","lan":"10.0.0.1"},"Meta":{"b":"2","a":"1"}},
		{"ID":"` + id2 + `","Node":"n2","Address":"10.0.0.2","Datacenter":"dc1"}]`}
	web := reply{body: `[
		{"ID":"` + id1 + `","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","ServiceID":"w1","ServiceName":"web"},
		{"ID":"` + id1 + `","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","ServiceID":"w2","ServiceName":"web"}]`}
	testAll(t, []exchange{
		{name: "datacenters", agent: map[string]reply{"GET /v1/catalog/datacenters": {body: `["dc1","east"]`}}, run: datacenters, out: "dc1\neast\n"},
		{name: "datacenters refused", agent: map[string]reply{"GET /v1/catalog/datacenters": {code: 500, body: "x"}}, run: datacenters,
			err: "Error listing datacenters: Unexpected response code: 500 (x)"},
		{name: "nodes", agent: map[string]reply{"GET /v1/catalog/nodes": all}, run: nodes(NodesQuery{}), out: "" +
			"Node  ID        Address   DC\n" +
			"n1    766f833f  10.0.0.1  dc1\n" +
			"n2    short     10.0.0.2  dc1\n"},
		{name: "nodes detailed", agent: map[string]reply{"GET /v1/catalog/nodes": all}, run: nodes(NodesQuery{Detailed: true}), out: "" +
			"Node  ID                                    Address   DC   TaggedAddresses            Meta\n" +
			"n1    766f833f-05ff-4ac6-b85a-c7760bcd8e00  10.0.0.1  dc1  lan=10.0.0.1, wan=1.1.1.1  a=1, b=2\n" +
			"n2    short                                 10.0.0.2  dc1\n"},
		{name: "nodes of a service", agent: map[string]reply{"GET /v1/catalog/service/web": web}, run: nodes(NodesQuery{Service: "web"}), out: "" +
			"Node  ID        Address   DC\n" +
			"n1    766f833f  10.0.0.1  dc1\n"},
		{name: "no nodes", agent: map[string]reply{"GET /v1/catalog/nodes?filter=f&near=_agent&node-meta=k%3Av": {body: "[]"}},
			run: nodes(NodesQuery{Options: client.Options{Filter: "f", Near: "_agent", NodeMeta: map[string]string{"k": "v"}}}), warn: noNodes},
		{name: "nodes refused", agent: map[string]reply{"GET /v1/catalog/nodes": {code: 500, body: "No path to datacenter"}}, run: nodes(NodesQuery{}),
			err: "Error listing nodes: Unexpected response code: 500 (No path to datacenter)"},
		{name: "services", agent: map[string]reply{"GET /v1/catalog/services": {body: `{"web":["v2","v1"],"consul":[]}`}}, run: services(ServicesQuery{}),
			out: "consul\nweb\n"},
		{name: "services with tags", agent: map[string]reply{"GET /v1/catalog/services": {body: `{"web":["v2","v1"],"consul":[]}`}}, run: services(ServicesQuery{Tags: true}),
			out: "consul\nweb     v1,v2\n"},
		{name: "services of a node", agent: map[string]reply{"GET /v1/catalog/node/n1": {body: `{"Node":{"Node":"n1"},"Services":{
			"w1":{"ID":"w1","Service":"web","Tags":["b","a"]},"w2":{"ID":"w2","Service":"web","Tags":["a"]}}}`}}, run: services(ServicesQuery{Node: "n1", Tags: true}),
			out: "web  a,b\n"},
		{name: "unknown node", agent: map[string]reply{"GET /v1/catalog/node/n9": {body: `null`}}, run: services(ServicesQuery{Node: "n9"}), warn: noServices},
		{name: "services refused", agent: map[string]reply{"GET /v1/catalog/services": {code: 500, body: "x"}}, run: services(ServicesQuery{}),
			err: "Error listing services: Unexpected response code: 500 (x)"},
	})
}
