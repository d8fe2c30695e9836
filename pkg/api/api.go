// Package api holds what the agent, its clients and the tools share of muster's HTTP
// API: JSON types, names of headers and parameters, and limits.
//
// The shapes are those of Consul's HTTP API (https://developer.hashicorp.com/consul/api-docs),
// so that existing clients work unchanged: nil and empty lists are told apart
// where the reference does, byte values are standard base64, and durations are
// Go duration strings. The package holds no behaviour beyond encoding.
package api

// Response headers. The wire spelling is Go's canonical one; compare without
// regard to case.
const (
	HeaderIndex        = "X-Consul-Index"
	HeaderKnownLeader  = "X-Consul-Knownleader"
	HeaderLastContact  = "X-Consul-Lastcontact"
	HeaderConsistency  = "X-Consul-Effective-Consistency"
	HeaderQueryBackend = "X-Consul-Query-Backend"
	HeaderContentHash  = "X-Consul-Contenthash"
	HeaderDefaultACL   = "X-Consul-Default-Acl-Policy"
	HeaderReason       = "X-Consul-Reason"
	HeaderToken        = "X-Consul-Token"

	// HeaderTarget says whom a forwarded request is for, TargetServer or TargetLeader.
	// A server that is addressed as the leader answers as the leader or with an error:
	// it never forwards. HeaderForwards says how many more times a server that is not
	// addressed as the leader may forward the request. Both are muster's own and
	// honoured on the server port only.
	HeaderTarget   = "X-Muster-Target"
	HeaderForwards = "X-Muster-Max-Forwards"

	// HeaderHops is what agents of versions without these two headers send and
	// understand: 2 is the leader, anything else any server, which may forward once.
	// It is sent to a leader until there is no such version to be upgraded from.
	HeaderHops = "X-Muster-Hops"

	// HeaderLockToken is the fencing token of a lock that was just acquired: the
	// raft index of the acquisition. It is muster's own.
	HeaderLockToken = "X-Muster-Lock-Token"

	// HeaderCluster says between agents which cluster the sender belongs to.
	HeaderCluster = "X-Muster-Cluster"
)

// Values of HeaderTarget.
const (
	TargetServer = "server" // any server
	TargetLeader = "leader"
)

// MaxForwards is how many times a request is forwarded at most: from a client agent
// to a server, and from there to the leader.
const MaxForwards = 2

// Limits with their defaults; the agent's configuration can change those that
// have a key (named in the comment).
const (
	MaxKVValueSize  = 512 * 1024 // bytes, limits.kv_max_value_size
	MaxTxnBodySize  = 512 * 1024 // bytes, limits.txn_max_req_len
	MaxTxnOps       = 128        // operations in one transaction
	MaxBodySize     = 1 << 20    // bytes, any other request body
	MaxCheckOutput  = 4096       // bytes, check_output_max_size
	MaxMetaPairs    = 64         // entries of a node's or service's meta map
	MaxMetaKeyLen   = 128        // bytes
	MaxMetaValueLen = 512        // bytes
)
