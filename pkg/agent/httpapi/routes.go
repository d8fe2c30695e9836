package httpapi

import (
	"net/http"
	"strings"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/api"
)

// where says which agent runs a handler.
type where uint8

const (
	here         where = iota // the agent that was asked
	anyServer                 // the first server reached
	leader                    // the leader; with ?stale a read runs on the first server reached
	inside                    // the first server reached, and only over the server port
	insideLeader              // the leader, and only over the server port
	port                      // this server, over the server port, whatever it knows of the cluster
)

// kind says which headers an answer carries.
type kind uint8

const (
	plain     kind = iota // none
	store                 // the query's index and contact
	discovery             // and its consistency; ?max_stale is kept, failures carry headers too
)

// route is one row of the API. A path that ends with a slash takes a name.
type route struct {
	methods string // comma-joined, as the Allow header shows them
	path    string
	where   where
	kind    kind
	handle  func(*API, *request) (any, error)
}

// routes is the whole API.
func routes() []route {
	return []route{
		{"GET", "/v1/status/leader", anyServer, plain, (*API).statusLeader},
		{"GET", "/v1/status/peers", anyServer, plain, (*API).statusPeers},

		{"GET", "/v1/agent/self", here, plain, (*API).agentSelf},
		{"GET", "/v1/agent/version", here, plain, (*API).agentVersion},
		{"GET", "/v1/agent/members", here, plain, (*API).agentMembers},
		{"GET", "/v1/agent/metrics", here, plain, (*API).agentMetrics},
		{"PUT", "/v1/agent/join/", here, plain, (*API).agentJoin},
		{"PUT", "/v1/agent/leave", here, plain, (*API).agentLeave},
		{"PUT", "/v1/agent/force-leave/", here, plain, (*API).agentForceLeave},
		{"PUT", "/v1/agent/reload", here, plain, (*API).agentReload},
		{"PUT", "/v1/agent/maintenance", here, plain, (*API).agentMaintenance},
		{"GET", "/v1/agent/services", here, plain, (*API).agentServices},
		{"GET", "/v1/agent/service/", here, plain, (*API).agentService},
		{"PUT", "/v1/agent/service/register", here, plain, (*API).agentServiceRegister},
		{"PUT", "/v1/agent/service/deregister/", here, plain, (*API).agentServiceDeregister},
		{"PUT", "/v1/agent/service/maintenance/", here, plain, (*API).agentServiceMaintenance},
		{"GET", "/v1/agent/health/service/id/", here, plain, (*API).agentHealthByID},
		{"GET", "/v1/agent/health/service/name/", here, plain, (*API).agentHealthByName},
		{"GET", "/v1/agent/checks", here, plain, (*API).agentChecks},
		{"PUT", "/v1/agent/check/register", here, plain, (*API).agentCheckRegister},
		{"PUT", "/v1/agent/check/deregister/", here, plain, (*API).agentCheckDeregister},
		{"PUT", "/v1/agent/check/pass/", here, plain, (*API).agentCheckPass},
		{"PUT", "/v1/agent/check/warn/", here, plain, (*API).agentCheckWarn},
		{"PUT", "/v1/agent/check/fail/", here, plain, (*API).agentCheckFail},
		{"PUT", "/v1/agent/check/update/", here, plain, (*API).agentCheckUpdate},

		{"PUT", "/v1/catalog/register", leader, plain, (*API).catalogRegister},
		{"PUT", "/v1/catalog/deregister", leader, plain, (*API).catalogDeregister},
		{"GET", "/v1/catalog/datacenters", here, plain, (*API).catalogDatacenters},
		{"GET", "/v1/catalog/nodes", leader, discovery, (*API).catalogNodes},
		{"GET", "/v1/catalog/services", leader, discovery, (*API).catalogServices},
		{"GET", "/v1/catalog/service/", leader, discovery, (*API).catalogService},
		{"GET", "/v1/catalog/connect/", leader, discovery, (*API).nothing},
		{"GET", "/v1/catalog/gateway-services/", leader, discovery, (*API).nothing},
		{"GET", "/v1/catalog/node/", leader, discovery, (*API).catalogNode},
		{"GET", "/v1/catalog/node-services/", leader, discovery, (*API).catalogNodeServices},

		{"GET", "/v1/health/node/", leader, discovery, (*API).healthNode},
		{"GET", "/v1/health/checks/", leader, discovery, (*API).healthChecks},
		{"GET", "/v1/health/state/", leader, discovery, (*API).healthState},
		{"GET", "/v1/health/service/", leader, discovery, (*API).healthService},
		{"GET", "/v1/health/connect/", leader, discovery, (*API).nothing},
		{"GET", "/v1/health/ingress/", leader, discovery, (*API).nothing},

		{"GET,PUT,DELETE", kvPath, leader, store, (*API).kv},
		{"PUT", sessionCreatePath, leader, plain, (*API).sessionCreate},
		{"PUT", "/v1/session/destroy/", leader, plain, (*API).sessionDestroy},
		{"PUT", "/v1/session/renew/", leader, plain, (*API).sessionRenew},
		{"GET", "/v1/session/info/", leader, store, (*API).sessionInfo},
		{"GET", "/v1/session/node/", leader, store, (*API).sessionNode},
		{"GET", "/v1/session/list", leader, store, (*API).sessionList},

		{"PUT", "/v1/txn", leader, plain, (*API).txn},
		{"POST", "/v1/subscribe", leader, plain, (*API).subscribe},

		{"PUT", "/v1/event/fire/", here, plain, (*API).eventFire},
		{"GET", "/v1/event/list", here, plain, (*API).eventList},
		{"GET", "/v1/event/log", leader, store, (*API).eventLog},
		{"PUT", eventLogPath, leader, plain, (*API).eventLogFire},
		{"GET,PUT", eventAckPath, leader, store, (*API).eventAck},

		{"GET", "/v1/exec/targets", leader, plain, (*API).execTargets},
		{"PUT", "/v1/exec/job", leader, plain, (*API).execStart},
		{"GET", "/v1/exec/job/", leader, store, (*API).execJob},
		{"GET", "/v1/exec/jobs", leader, store, (*API).execJobs},
		{"PUT", "/v1/exec/stop/", leader, plain, (*API).execStop},
		{"POST", execOutputPath, leader, plain, (*API).execOutput},

		{"GET", "/v1/coordinate/datacenters", here, plain, (*API).coordinateDatacenters},
		{"GET", "/v1/coordinate/nodes", leader, store, (*API).nothing},
		{"GET", "/v1/coordinate/node/", leader, plain, (*API).coordinateNode},

		{"GET", "/v1/operator/raft/configuration", leader, plain, (*API).operatorRaft},

		{"GET", "/v1/internal/by-address/node/", inside, plain, (*API).nodeByAddress},
		{"GET", "/v1/internal/by-address/service/", inside, plain, (*API).serviceByAddress},
		{"GET", "/v1/internal/elected/", inside, plain, (*API).electedNode},
		{"GET", exec.CallsPath, insideLeader, store, (*API).execCalls},
		{"PUT", exec.ClaimPath, insideLeader, plain, (*API).execClaim},
		{"PUT", exec.ReportPath, insideLeader, plain, (*API).execReport},
		{"PUT", exec.OutputPath, insideLeader, plain, (*API).execPush},
		{"PUT", exec.WantedPath, insideLeader, plain, (*API).execWanted},
		{"GET,PUT", bus.Path, port, plain, (*API).busMessages},
	}
}

// table finds routes.
type table struct {
	exact  map[string]*route // paths without a name
	prefix map[string]*route // paths that take one, with their slash
}

// maxSegments is more than the segments of any route before its name, so that
// looking up a path costs the same however many slashes it has.
const maxSegments = 8

func newTable(rows []route) table {
	t := table{exact: map[string]*route{}, prefix: map[string]*route{}}
	for i, row := range rows {
		into := t.exact
		if strings.HasSuffix(row.path, "/") {
			into = t.prefix
		}
		into[row.path] = &rows[i]
	}
	return t
}

// find gives the route of a path and the name in it. A route without its slash
// is to be redirected to the path with it.
func (t table) find(path string) (rt *route, name string, redirect bool) {
	if rt := t.exact[path]; rt != nil {
		return rt, "", false
	}
	if t.prefix[path+"/"] != nil {
		return nil, "", true
	}
	end := 0
	for range maxSegments {
		i := strings.IndexByte(path[end:], '/')
		if i < 0 {
			break
		}
		end += i + 1
		if longer := t.prefix[path[:end]]; longer != nil {
			rt, name = longer, path[end:]
		}
	}
	return rt, name, false
}

func (rt *route) allows(method string) bool {
	for m := range strings.SplitSeq(rt.methods, ",") {
		if m == method {
			return true
		}
	}
	return false
}

// served tells whether a request that came from there finds this route: the server
// port has no agent's own endpoints, the client addresses have nothing inside, and
// what is of one server's port alone this agent does not ask itself.
func (rt *route) served(from origin) bool {
	switch rt.where {
	case here:
		return !from.forwarded
	case inside, insideLeader:
		return !from.public
	case port:
		return from.forwarded
	}
	return true
}

// onlyReads tells requests that change nothing, though some have a body.
func (rt *route) onlyReads(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return rt.path == api.SubscribePath || rt.path == execOutputPath
}

// takesLong tells the routes, beside blocking reads, that may go on for long, and
// must end with the leadership of the server they run on.
func (rt *route) takesLong() bool {
	switch rt.path {
	case api.SubscribePath, execOutputPath, exec.OutputPath, exec.WantedPath:
		return true
	}
	return false
}

func (rt *route) allow() string { return "OPTIONS," + rt.methods }

// namespaced tells the routes that refuse ?ns; the others ignore it.
func (rt *route) namespaced() bool {
	switch {
	case rt.path == "/v1/catalog/nodes", rt.path == "/v1/catalog/datacenters":
		return false
	case strings.HasPrefix(rt.path, "/v1/agent/"):
		return strings.Contains(rt.path, "/service") || strings.Contains(rt.path, "/check")
	}
	for _, p := range []string{kvPath, txnPath, "/v1/session/", "/v1/catalog/", "/v1/health/"} {
		if strings.HasPrefix(rt.path, p) {
			return true
		}
	}
	return false
}
