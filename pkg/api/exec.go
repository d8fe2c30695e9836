package api

import "time"

// Limits of remote execution.
const (
	MaxExecTargets = 10000           // nodes of one job
	MaxExecOrder   = 512 * 1024      // bytes of an order, script included
	MaxExecJobs    = 512             // jobs in the state, open ones included
	MaxExecOutput  = 4 << 20         // bytes of output that a node keeps of one run
	MaxExecChunk   = 32 << 10        // bytes of output in one chunk
	ExecRetention  = time.Hour       // how long a job is kept after its end
	ExecOrderTTL   = 5 * time.Minute // how long nodes may begin an order, by default
)

// ExecNamespace is the namespace of the signatures of orders: ssh-keygen's -n.
const ExecNamespace = "muster-exec-order"

// States of a target. Those after running are final, except lost: a node that
// comes back still reports its result.
const (
	ExecWaiting = "waiting" // as many targets as may run at a time do
	ExecCalled  = "called"  // its node has not answered yet
	ExecRunning = "running"
	ExecOK      = "ok"
	ExecFailed  = "failed"  // it ran, or could not be started: Code is not 0
	ExecTimeout = "timeout" // killed because its time was over
	ExecStopped = "stopped" // killed because somebody stopped the job
	ExecRefused = "refused" // the node's policy does not allow it: Error says why
	ExecLost    = "lost"    // the node failed, or did not answer
	ExecSkipped = "skipped" // never begun: the job was stopped before
)

// ExecFinal says whether a state is an end of the target.
func ExecFinal(state string) bool {
	switch state {
	case ExecWaiting, ExecCalled, ExecRunning:
		return false
	}
	return true
}

// Why a job was stopped.
const (
	ExecStoppedByUser = "stopped"
	ExecMaxFail       = "too many failures"
)

// ExecOrder is what is to be run, and where. A signature covers all of it.
type ExecOrder struct {
	ID         string // a UUID, chosen by the client; no node runs it twice
	Datacenter string `json:",omitempty"`

	// One of: a named job of the targets with Args; a command, run as it is or,
	// with Shell, by "sh -c"; a script with Args.
	Job     string   `json:",omitempty"`
	Command []string `json:",omitempty"`
	Shell   bool     `json:",omitempty"`
	Script  []byte   `json:",omitempty"`
	Args    []string `json:",omitempty"`

	Targets  []string // names of nodes, in the order in which they begin
	Parallel int      `json:",omitempty"` // at a time; 0: all
	MaxFail  int      `json:",omitempty"` // failures after which no more begin; 0: any number
	Wait     Duration // how long a node may take to answer
	Timeout  Duration `json:",omitempty"` // how long it may run; 0: no limit

	By      string // the user at the client, for the log; not verified
	Issued  time.Time
	Expires time.Time // no node begins it later
}

// ExecRequest is the body of PUT /v1/exec/job.
type ExecRequest struct {
	Order     []byte // the JSON of an ExecOrder, byte for byte as it was signed
	Key       string `json:",omitempty"` // who signed, as a line of authorized_keys
	Signature []byte `json:",omitempty"` // of Order, as "ssh-keygen -Y sign -n muster-exec-order" writes it
}

// ExecJob is a job and its results: GET /v1/exec/job/ID.
type ExecJob struct {
	ID      string
	Job     string `json:",omitempty"`
	Command string // for people
	By      string
	Created time.Time
	Ended   time.Time `json:",omitzero"`
	Stopped string    `json:",omitempty"` // why it was stopped
	Targets []ExecTarget
	Request *ExecRequest `json:",omitempty"` // what was ordered; only with ?request

	CreateIndex uint64
	ModifyIndex uint64
}

// ExecTarget is one node of a job.
type ExecTarget struct {
	Node      string
	State     string
	Code      int       // the command's own, or 128 + signal
	Error     string    `json:",omitempty"`
	Since     time.Time `json:",omitzero"` // when it entered its state
	Chunks    uint64    `json:",omitempty"`
	Truncated bool      `json:",omitempty"` // it wrote more than is kept
}

// ExecCandidate is a node that the filters of GET /v1/exec/targets select.
type ExecCandidate struct {
	Node  string
	Alive bool // serfHealth does not say otherwise
}

// ExecCall is a job as the agent of one of its targets sees it.
type ExecCall struct {
	Job     string
	State   string // called or running
	Claim   string // identifies the agent process that runs it
	Stop    bool   // it must not begin, or must end
	Request ExecRequest
}

// ExecResult is the result of a target. It is ignored unless the target is in the
// state From, if that is set, and unless Claim is that of the agent that runs it,
// if it has begun.
type ExecResult struct {
	Job, Node string
	From      string `json:",omitempty"`
	Claim     string `json:",omitempty"`
	State     string
	Code      int    `json:",omitempty"`
	Error     string `json:",omitempty"`
	Chunks    uint64 `json:",omitempty"`
	Truncated bool   `json:",omitempty"`
}

// The streams of an ExecChunk.
const (
	ExecStdout = 1
	ExecStderr = 2
)

// ExecChunk is a piece of output.
type ExecChunk struct {
	Stream int
	Data   []byte
}

// ExecOutput is a line of the answer to POST /v1/exec/output/ID: the chunks of one
// node from the number Seq on. A line without a node is a heartbeat; one with an
// Error is the last.
type ExecOutput struct {
	Node   string      `json:",omitempty"`
	Seq    uint64      `json:",omitempty"`
	Chunks []ExecChunk `json:",omitempty"`
	Error  string      `json:",omitempty"`
}

// ExecFollow is the body of POST /v1/exec/output/ID: how many chunks of each node
// the client has already. Nodes that are not named begin with 0.
type ExecFollow struct {
	Have map[string]uint64
}
