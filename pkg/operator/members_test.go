package operator

import (
	"context"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

const fourMembers = `[
 {"Name":"c1","Addr":"10.0.0.9","Port":8301,"Tags":{"role":"node","dc":"dc1","vsn":"2","build":"1.2.3:abc"},"Status":1},
 {"Name":"s2","Addr":"::1","Port":8301,"Tags":{"role":"consul","dc":"dc1","vsn":"2","build":"1.2.3"},"Status":4},
 {"Name":"s1","Addr":"10.0.0.1","Port":8301,"Tags":{"role":"consul","dc":"dc1","vsn":"2","build":"1.2.3:"},"Status":1},
 {"Name":"odd\u001b[31m","Addr":"10.0.0.7","Port":1,"Tags":null,"Status":9}]`

func members(q MembersQuery) func(context.Context, *client.Client, streams) error {
	return func(ctx context.Context, c *client.Client, s streams) error { return Members(ctx, c, s.out, q) }
}

func TestMembers(t *testing.T) {
	agent := map[string]reply{"GET /v1/agent/members?segment=_all": {body: fourMembers}}
	testAll(t, []exchange{
		{name: "all", agent: agent, run: members(MembersQuery{Status: ".*"}), out: "" +
			"Node      Address        Status   Type     Build  Protocol  DC   Partition  Segment\n" +
			"s1        10.0.0.1:8301  alive    server   1.2.3  2         dc1  default    <all>\n" +
			"s2        [::1]:8301     failed   server   1.2.3  2         dc1  default    <all>\n" +
			"c1        10.0.0.9:8301  alive    client   1.2.3  2         dc1  default    <default>\n" +
			"odd?[31m  10.0.0.7:1     unknown  unknown                        default    <default>\n"},
		{name: "status", agent: agent, run: members(MembersQuery{Status: "^fail", Detailed: true}), out: "" +
			"Node  Address     Status  Tags\n" +
			"s2    [::1]:8301  failed  ap=default,build=1.2.3,dc=dc1,role=consul,vsn=2\n"},
		{name: "filter", agent: map[string]reply{"GET /v1/agent/members?filter=Name+%3D%3D+x&segment=_all": {body: "[]"}},
			run: members(MembersQuery{Filter: "Name == x"}), code: 2},
		{name: "none of that status", agent: agent, run: members(MembersQuery{Status: "^left$"}), code: 2},
		{name: "wan", agent: map[string]reply{"GET /v1/agent/members?wan=1": {body: "[]"}}, run: members(MembersQuery{WAN: true}), code: 2},
		{name: "segment", agent: map[string]reply{"GET /v1/agent/members?segment=x": {code: 500, body: "Network segments are not supported"}},
			run: members(MembersQuery{Segment: "x"}), err: "Error retrieving members: Unexpected response code: 500 (Network segments are not supported)"},
		{name: "bad expression", run: members(MembersQuery{Status: "("}),
			err: "Failed to compile status regexp: error parsing regexp: missing closing ): `(`"},
	})
}

func TestJoinAndLeave(t *testing.T) {
	join := func(wan bool, addrs ...string) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return Join(ctx, c, s.out, s.warn, addrs, wan)
		}
	}
	leave := func(ctx context.Context, c *client.Client, s streams) error { return Leave(ctx, c, s.out) }
	force := func(node string, prune, wan bool) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, _ streams) error {
			return ForceLeave(ctx, c, node, prune, wan)
		}
	}
	refused := reply{code: 500, body: "refused"}
	ok := reply{}
	testAll(t, []exchange{
		{name: "join", agent: map[string]reply{"PUT /v1/agent/join/a": ok, "PUT /v1/agent/join/b": ok}, run: join(false, "a", "b"),
			out: "Successfully joined cluster by contacting 2 nodes.\n"},
		{name: "one answers", agent: map[string]reply{"PUT /v1/agent/join/a?wan=1": refused, "PUT /v1/agent/join/b?wan=1": ok}, run: join(true, "a", "b"),
			out: "Successfully joined cluster by contacting 1 nodes.\n", warn: "Error joining address 'a': Unexpected response code: 500 (refused)\n"},
		{name: "none answers", agent: map[string]reply{"PUT /v1/agent/join/a": refused}, run: join(false, "a"),
			warn: "Error joining address 'a': Unexpected response code: 500 (refused)\n", err: "Failed to join any nodes."},
		{name: "leave", agent: map[string]reply{"PUT /v1/agent/leave": ok}, run: leave, out: "Graceful leave complete\n"},
		{name: "leave refused", agent: map[string]reply{"PUT /v1/agent/leave": refused}, run: leave, err: "Error leaving: Unexpected response code: 500 (refused)"},
		{name: "force-leave", agent: map[string]reply{"PUT /v1/agent/force-leave/n": ok}, run: force("n", false, false)},
		{name: "prune", agent: map[string]reply{"PUT /v1/agent/force-leave/n?prune=1": ok}, run: force("n", true, false)},
		{name: "prune wan", agent: map[string]reply{"PUT /v1/agent/force-leave/n?prune=1&wan=1": ok}, run: force("n", true, true)},
		{name: "unknown node", agent: map[string]reply{"PUT /v1/agent/force-leave/n": {code: 500, body: "agent: No node found with name 'n'"}}, run: force("n", false, false),
			err: "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'n')"},
		{name: "no node", run: force("", false, false), err: "A node name must be specified to force leave."},
	})
}

func TestRaftPeers(t *testing.T) {
	peers := func(ctx context.Context, c *client.Client, s streams) error {
		return RaftPeers(ctx, c, s.out, client.Options{Stale: true})
	}
	testAll(t, []exchange{
		{name: "peers", run: peers, agent: map[string]reply{"GET /v1/operator/raft/configuration?stale=": {body: `{"Index":0,"Servers":[
			{"ID":"i1","Node":"s1","Address":"10.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":90},
			{"ID":"i2","Node":"s2","Address":"10.0.0.2:8300","ProtocolVersion":"3","Voter":true,"LastIndex":88},
			{"ID":"i3","Node":"(unknown)","Address":"10.0.0.3:8300","ProtocolVersion":"3","LastIndex":91}]}`}}, out: "" +
			"Node       ID  Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By\n" +
			"s1         i1  10.0.0.1:8300  leader    true   3             90            -\n" +
			"s2         i2  10.0.0.2:8300  follower  true   3             88            2 commits\n" +
			"(unknown)  i3  10.0.0.3:8300  follower  false  3             91            0 commits\n"},
		{name: "no leader", run: peers, agent: map[string]reply{"GET /v1/operator/raft/configuration?stale=": {code: 500, body: "No cluster leader"}},
			err: "Error getting peers: Failed to retrieve raft configuration: Unexpected response code: 500 (No cluster leader)"},
	})
}
