package httpapi

import (
	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/exec"
)

// routes is the whole API: methods, path, where it runs, the headers of its answer,
// what it needs to be allowed (access.go), its handler, and what else is particular to
// it (route.go).
func routes() []route {
	return []route{
		row("GET", "/v1/status/leader", anyServer, plain, anybody, (*API).statusLeader),
		row("GET", "/v1/status/peers", anyServer, plain, anybody, (*API).statusPeers),

		row("GET", "/v1/agent/self", here, plain, agentRead, (*API).agentSelf),
		row("GET", "/v1/agent/version", here, plain, anybody, (*API).agentVersion),
		row("GET", "/v1/agent/members", here, plain, rows, (*API).agentMembers),
		row("GET", "/v1/agent/metrics", here, plain, agentRead, (*API).agentMetrics),
		row("PUT", "/v1/agent/join/", here, plain, agentWrite, (*API).agentJoin),
		row("PUT", "/v1/agent/leave", here, plain, agentWrite, (*API).agentLeave),
		row("PUT", "/v1/agent/force-leave/", here, plain, operatorWrite, (*API).agentForceLeave),
		row("PUT", "/v1/agent/reload", here, plain, agentWrite, (*API).agentReload),
		row("PUT", "/v1/agent/maintenance", here, plain, ownNodeWrite, (*API).agentMaintenance),
		row("GET", "/v1/agent/services", here, plain, rows, (*API).agentServices, ns),
		row("GET", "/v1/agent/service/", here, plain, ownServiceRead, (*API).agentService, ns),
		row("PUT", "/v1/agent/service/register", here, plain, registersService, (*API).agentServiceRegister, ns),
		row("PUT", "/v1/agent/service/deregister/", here, plain, ownServiceWrite, (*API).agentServiceDeregister, ns),
		row("PUT", "/v1/agent/service/maintenance/", here, plain, ownServiceWrite, (*API).agentServiceMaintenance, ns),
		row("GET", "/v1/agent/health/service/id/", here, plain, ownServiceRead, (*API).agentHealthByID, ns),
		row("GET", "/v1/agent/health/service/name/", here, plain, serviceRead, (*API).agentHealthByName, ns),
		row("GET", "/v1/agent/checks", here, plain, rows, (*API).agentChecks, ns),
		row("PUT", "/v1/agent/check/register", here, plain, registersCheck, (*API).agentCheckRegister, ns),
		row("PUT", "/v1/agent/check/deregister/", here, plain, ownCheckWrite, (*API).agentCheckDeregister, ns),
		row("PUT", "/v1/agent/check/pass/", here, plain, ownCheckWrite, (*API).agentCheckPass, ns),
		row("PUT", "/v1/agent/check/warn/", here, plain, ownCheckWrite, (*API).agentCheckWarn, ns),
		row("PUT", "/v1/agent/check/fail/", here, plain, ownCheckWrite, (*API).agentCheckFail, ns),
		row("PUT", "/v1/agent/check/update/", here, plain, ownCheckWrite, (*API).agentCheckUpdate, ns),

		row("PUT", "/v1/catalog/register", leader, plain, registers, (*API).catalogRegister, ns),
		row("PUT", "/v1/catalog/deregister", leader, plain, deregisters, (*API).catalogDeregister, ns),
		row("GET", "/v1/catalog/datacenters", here, plain, anybody, (*API).catalogDatacenters),
		row("GET", "/v1/catalog/nodes", leader, discovery, rows, (*API).catalogNodes),
		row("GET", "/v1/catalog/services", leader, discovery, rows, (*API).catalogServices, ns),
		row("GET", "/v1/catalog/service/", leader, discovery, rows, (*API).catalogService, ns),
		row("GET", "/v1/catalog/connect/", leader, discovery, anybody, (*API).nothing, ns),
		row("GET", "/v1/catalog/gateway-services/", leader, discovery, anybody, (*API).nothing, ns),
		row("GET", "/v1/catalog/node/", leader, discovery, rows, (*API).catalogNode, ns),
		row("GET", "/v1/catalog/node-services/", leader, discovery, rows, (*API).catalogNodeServices, ns),

		row("GET", "/v1/health/node/", leader, discovery, rows, (*API).healthNode, ns),
		row("GET", "/v1/health/checks/", leader, discovery, rows, (*API).healthChecks, ns),
		row("GET", "/v1/health/state/", leader, discovery, rows, (*API).healthState, ns),
		row("GET", instancesPath, leader, discovery, rows, (*API).healthService, ns, noFailureHeaders),
		row("GET", "/v1/health/connect/", leader, discovery, anybody, (*API).nothing, ns),
		row("GET", "/v1/health/ingress/", leader, discovery, anybody, (*API).nothing, ns),

		row("GET,PUT,DELETE", "/v1/kv/", leader, store, keys, (*API).kv, ns, literal, body(kvLimit), changes, unshared(oneKey)),
		row("PUT", "/v1/session/create", leader, plain, createsSession, (*API).sessionCreate, ns, completes(nameNode)),
		row("PUT", "/v1/session/destroy/", leader, plain, sessionWrite, (*API).sessionDestroy, ns),
		row("PUT", "/v1/session/renew/", leader, plain, sessionWrite, (*API).sessionRenew, ns),
		row("GET", "/v1/session/info/", leader, store, rows, (*API).sessionInfo, ns, failureHeaders),
		row("GET", "/v1/session/node/", leader, store, rows, (*API).sessionNode, ns, failureHeaders),
		row("GET", "/v1/session/list", leader, store, rows, (*API).sessionList, ns, failureHeaders),

		row("PUT", "/v1/txn", leader, plain, operations, (*API).txn, ns, body(txnLimit), readsIf(onlyGets)),
		row("POST", "/v1/subscribe", leader, plain, rows, (*API).subscribe, reads, long, body(subscribeLimit), completes(checkFollowed)),

		row("PUT", "/v1/event/fire/", here, plain, eventWrite, (*API).eventFire),
		row("GET", "/v1/event/list", here, plain, rows, (*API).eventList),
		row("GET", "/v1/event/log", leader, store, rows, (*API).eventLog),
		row("PUT", eventLogPath, leader, plain, eventWrite, (*API).eventLogFire, body(eventLimit)),
		row("GET,PUT", "/v1/event/ack/", leader, store, rows, (*API).eventAck, completes(nameAcknowledger)),

		row("GET", "/v1/exec/targets", leader, plain, rows, (*API).execTargets),
		row("PUT", "/v1/exec/job", leader, plain, orders, (*API).execStart),
		row("GET", "/v1/exec/job/", leader, store, rows, (*API).execJob),
		row("GET", "/v1/exec/jobs", leader, store, rows, (*API).execJobs),
		row("PUT", "/v1/exec/stop/", leader, plain, execWrite, (*API).execStop),
		row("POST", "/v1/exec/output/", leader, plain, execRead, (*API).execOutput, reads, leaderOnly, long),

		row("GET", "/v1/coordinate/datacenters", here, plain, anybody, (*API).coordinateDatacenters),
		row("GET", "/v1/coordinate/nodes", leader, store, anybody, (*API).nothing),
		row("GET", "/v1/coordinate/node/", leader, plain, nodeRead, (*API).coordinateNode),

		row("GET", "/v1/operator/raft/configuration", leader, plain, operatorRead, (*API).operatorRaft),

		row("GET", "/v1/internal/by-address/node/", inside, plain, rows, (*API).nodeByAddress),
		row("GET", "/v1/internal/by-address/service/", inside, plain, rows, (*API).serviceByAddress),
		row("GET", "/v1/internal/elected/", inside, plain, rows, (*API).electedNode),
		row("GET", exec.CallsPath, insideLeader, store, agents, (*API).execCalls),
		row("PUT", exec.ClaimPath, insideLeader, plain, agents, (*API).execClaim),
		row("PUT", exec.ReportPath, insideLeader, plain, agents, (*API).execReport),
		row("PUT", exec.OutputPath, insideLeader, plain, agents, (*API).execPush, long),
		row("PUT", exec.WantedPath, insideLeader, plain, agents, (*API).execWanted, long),
		row("GET", RaftStatsPath, port, plain, agents, peer(Peer.RaftStats)),
		row("GET", LeaderProbePath, port, plain, agents, peer(Peer.LeaderProbe)),
		row("GET", VoterPath, port, plain, agents, peer(Peer.Voter)),
		row("GET", ReadIndexPath, port, plain, agents, peer(Peer.ReadIndex)),
		row("GET", DigestPath, port, plain, agents, peer(Peer.Digest)),
		row("GET", HelloPath, port, plain, agents, (*API).hello),
		row("GET,PUT", bus.Path, port, plain, agents, (*API).busMessages),
	}
}
