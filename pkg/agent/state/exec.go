package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Remote execution. A job has a fixed list of targets, which begin in order,
// Parallel at a time. The reports of targets make the next ones begin, so that a job
// needs no coordinator and survives a change of leader.
//
//	waiting --> called --> running --> ok, failed, timeout, stopped
//	   |          |           |
//	   |          +-----------+------> lost --> the result that its node reports later
//	   |          +-> refused
//	   +----------+-> skipped          the job was stopped

// JobCreate begins a job. Its result is nil or an error; repeating it is no error.
type JobCreate struct{ Request api.ExecRequest }

// JobClaim says that a node begins its target. Its result is a bool: false forbids
// it.
type JobClaim struct{ Job, Node, Claim string }

// JobReport records results of targets. Those that do not fit the state of their
// target are ignored. Its result is nil.
type JobReport struct{ Results []api.ExecResult }

// JobStop stops a job: no target begins any more, and the nodes that run one, lost
// ones too, are told to kill it. Its result is a bool: false if there is no such job.
type JobStop struct{ Job string }

// JobReap removes the jobs that ended more than api.ExecKept ago. Its result is nil.
type JobReap struct{}

func (*JobCreate) kind() byte { return typeJobCreate }
func (*JobClaim) kind() byte  { return typeJobClaim }
func (*JobReport) kind() byte { return typeJobReport }
func (*JobStop) kind() byte   { return typeJobStop }
func (*JobReap) kind() byte   { return typeJobReap }

func (*JobCreate) level() int { return levelSessions }
func (*JobClaim) level() int  { return levelSessions }
func (*JobReport) level() int { return levelSessions }
func (*JobStop) level() int   { return levelSessions }
func (*JobReap) level() int   { return levelSessions }

func (c *JobCreate) apply(x *tx) any { return x.createJob(c) }
func (c *JobClaim) apply(x *tx) any  { return x.claimJob(c) }
func (c *JobStop) apply(x *tx) any   { return x.stopJob(c.Job) }
func (*JobReap) apply(x *tx) any     { x.reapJobs(); return nil }
func (c *JobReport) apply(x *tx) any {
	for i := range c.Results {
		x.reportJob(&c.Results[i])
	}
	return nil
}

// job is a row of its table.
type job struct {
	ID       string
	Request  api.ExecRequest
	Targets  []string
	Parallel int
	MaxFail  int
	Wait     time.Duration
	Timeout  time.Duration
	Created  int64 // unix nanoseconds, like all times here
	Ended    int64 // 0: not yet
	Stopped  string

	Next int // the first that waits
	Open int // called or running
	Bad  int // ended, and not ok

	CreateIndex uint64
	ModifyIndex uint64
}

// jobTarget is one node of a job.
type jobTarget struct {
	Job       string
	Pos       int // in the job's list
	Node      string
	State     string
	Since     int64
	Claim     string
	Code      int
	Error     string
	Chunks    uint64
	Truncated bool
}

func (t *jobTarget) open() bool { return t.State == api.ExecCalled || t.State == api.ExecRunning }

// orphaned says that the target was lost while its node ran it: it may still run.
func (t *jobTarget) orphaned() bool { return t.State == api.ExecLost && t.Claim != "" }

func jobTargetKey(job, node string) []byte { return keyOf(job, strings.ToLower(node)) }

// callKey indexes, by node, the targets that their nodes have to run or to stop.
func callKey(t *jobTarget) []byte {
	if !t.open() && !t.orphaned() {
		return nil
	}
	return nodeKey(t.Node)
}

func (r reader) job(id string) *job { return first[job](r, tableJobs, "id", keyOf(id)) }

func (r reader) jobTargets(id string) iter.Seq[*jobTarget] {
	return scan[jobTarget](r, tableJobTargets, "id_prefix", keyOf(id))
}

// ReadOrder decodes and validates an order.
func ReadOrder(data []byte) (*api.ExecOrder, error) {
	if len(data) > api.MaxExecOrder {
		return nil, fmt.Errorf("the order has %d bytes: at most %d are allowed", len(data), api.MaxExecOrder)
	}
	var o api.ExecOrder
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields() // a signed limit that is not known here must not be ignored
	if err := dec.Decode(&o); err != nil {
		return nil, fmt.Errorf("read the order: %w", err)
	}
	if err := checkUUID(o.ID); err != nil {
		return nil, fmt.Errorf("the order's ID %q is no UUID", o.ID)
	}
	kinds := 0
	for _, given := range []bool{o.Job != "", len(o.Command) > 0, len(o.Script) > 0} {
		if given {
			kinds++
		}
	}
	seen := make(map[string]bool, len(o.Targets))
	for _, node := range o.Targets {
		seen[strings.ToLower(node)] = true
	}
	switch {
	case kinds != 1:
		return nil, errors.New("the order must have one of Job, Command and Script")
	case len(o.Command) > 0 && len(o.Args) > 0:
		return nil, errors.New("the order has Args beside a Command: they belong to a Job or a Script")
	case o.Shell && len(o.Command) != 1:
		return nil, errors.New("the order has Shell: its Command must be one string")
	case len(o.Targets) == 0 || len(o.Targets) > api.MaxExecTargets:
		return nil, fmt.Errorf("the order has %d targets: it must have 1 to %d", len(o.Targets), api.MaxExecTargets)
	case seen[""] || len(seen) != len(o.Targets):
		return nil, errors.New("the order has a target twice, or one without a name")
	case o.Parallel < 0 || o.MaxFail < 0 || o.Timeout < 0 || o.Wait <= 0:
		return nil, errors.New("the order has a number below zero, or no Wait")
	}
	return &o, nil
}

func (x *tx) createJob(c *JobCreate) error {
	o, err := ReadOrder(c.Request.Order)
	if err != nil {
		return err
	}
	if old := x.job(o.ID); old != nil {
		if reflect.DeepEqual(old.Request, c.Request) {
			return nil
		}
		return fmt.Errorf("there is another job %s", o.ID)
	}
	if err := x.evictJob(); err != nil {
		return err
	}
	j := &job{
		ID: o.ID, Request: c.Request, Targets: o.Targets, Parallel: o.Parallel, MaxFail: o.MaxFail,
		Wait: o.Wait.D(), Timeout: o.Timeout.D(), Created: x.now, CreateIndex: x.Index,
	}
	for pos, node := range o.Targets {
		x.insert(tableJobTargets, &jobTarget{Job: j.ID, Pos: pos, Node: node, State: api.ExecWaiting, Since: x.now})
	}
	x.advance(j)
	x.putJob(j)
	return nil
}

// evictJob removes the job that ended first, if there are api.MaxExecJobs.
func (x *tx) evictJob() error {
	var oldest *job
	n := 0
	for j := range scan[job](x.reader, tableJobs, "id_prefix", nil) {
		n++
		if j.Ended != 0 && (oldest == nil || j.Ended < oldest.Ended) {
			oldest = j
		}
	}
	switch {
	case n < api.MaxExecJobs:
	case oldest == nil:
		return fmt.Errorf("%d jobs are open, and no more are allowed: stop some, or wait", n)
	default:
		x.deleteJob(oldest)
	}
	return nil
}

// advance calls the next targets, up to Parallel open ones, and ends the job if none
// is left. j is a copy that the caller may change.
func (x *tx) advance(j *job) {
	for ; j.Next < len(j.Targets); j.Next++ {
		state := api.ExecCalled
		if j.Stopped != "" {
			state = api.ExecSkipped
		} else if j.Parallel > 0 && j.Open >= j.Parallel {
			return
		}
		old := first[jobTarget](x.reader, tableJobTargets, "id", jobTargetKey(j.ID, j.Targets[j.Next]))
		t := *old
		t.State, t.Since = state, x.now
		x.putTarget(old, &t)
		if t.open() {
			j.Open++
		}
	}
	if j.Open == 0 && j.Ended == 0 {
		j.Ended = x.now
	}
}

func (x *tx) putJob(j *job) {
	j.ModifyIndex = x.Index
	x.insert(tableJobs, j)
	x.touch(topicJob, j.ID)
	x.touch(topicJobs, "")
}

// putTarget replaces the row of a target; updated may be nil. It touches the calls of
// the target's node if the target is, or was, one of them.
func (x *tx) putTarget(old, updated *jobTarget) {
	if updated == nil {
		x.delete(tableJobTargets, old)
	} else {
		x.insert(tableJobTargets, updated)
	}
	if callKey(old) != nil || updated != nil && callKey(updated) != nil {
		x.touchCalls(old.Node)
	}
}

func (x *tx) touchCalls(node string) { x.touch(topicCalls, strings.ToLower(node)) }

func (x *tx) claimJob(c *JobClaim) bool {
	t := first[jobTarget](x.reader, tableJobTargets, "id", jobTargetKey(c.Job, c.Node))
	if t == nil || t.State == api.ExecRunning {
		return t != nil && t.Claim == c.Claim
	}
	if t.State != api.ExecCalled {
		return false
	}
	updated, j := *t, *x.job(c.Job)
	updated.State, updated.Since, updated.Claim = api.ExecRunning, x.now, c.Claim
	x.putTarget(t, &updated)
	x.putJob(&j)
	return true
}

func (x *tx) reportJob(r *api.ExecResult) {
	t := first[jobTarget](x.reader, tableJobTargets, "id", jobTargetKey(r.Job, r.Node))
	if t == nil || !api.ExecFinal(r.State) || r.From != "" && r.From != t.State {
		return
	}
	// The agent that claimed a target reports it, even after it was lost. The leader
	// reports it as lost.
	owner := t.Claim == r.Claim && (t.open() || t.State == api.ExecLost && r.State != api.ExecLost)
	if !owner && (r.State != api.ExecLost || r.Claim != "" || !t.open()) {
		return
	}
	updated, j := *t, *x.job(r.Job)
	updated.State, updated.Since = r.State, x.now
	updated.Code, updated.Error, updated.Chunks, updated.Truncated = r.Code, r.Error, r.Chunks, r.Truncated
	if owner && r.State == api.ExecLost {
		updated.Claim = "" // its node reports that nothing runs
	}
	x.putTarget(t, &updated)
	if t.open() {
		j.Open--
	} else if t.State == api.ExecLost {
		j.Bad--
	}
	if updated.State != api.ExecOK {
		j.Bad++
	}
	if j.MaxFail > 0 && j.Bad >= j.MaxFail && j.Stopped == "" && j.Next < len(j.Targets) {
		j.Stopped = api.ExecMaxFail
	}
	x.advance(&j)
	x.putJob(&j)
}

func (x *tx) stopJob(id string) bool {
	old := x.job(id)
	if old == nil || old.Stopped == api.ExecStoppedByUser {
		return old != nil
	}
	var active []*jobTarget
	for t := range x.jobTargets(id) {
		if t.open() || t.orphaned() {
			active = append(active, t)
		}
	}
	if old.Ended != 0 && len(active) == 0 {
		return true
	}
	j := *old
	j.Stopped = api.ExecStoppedByUser
	for _, t := range active {
		if t.State == api.ExecCalled {
			updated := *t
			updated.State, updated.Since = api.ExecSkipped, x.now
			x.putTarget(t, &updated)
			j.Open--
		} else {
			x.touchCalls(t.Node) // its call has changed to Stop
		}
	}
	x.advance(&j)
	x.putJob(&j)
	return true
}

func (x *tx) reapJobs() {
	for j := range scan[job](x.reader, tableJobs, "id_prefix", nil) {
		if j.Ended != 0 && j.Ended+int64(api.ExecRetention) <= x.now {
			x.deleteJob(j)
		}
	}
}

func (x *tx) restoreJobs(kind byte, body []byte) error {
	if kind == recordJob {
		return restoreRow(x, tableJobs, body, func(*job) bool { return true })
	}
	return restoreRow(x, tableJobTargets, body, func(t *jobTarget) bool {
		j := x.job(t.Job)
		return j != nil && t.Pos >= 0 && t.Pos < len(j.Targets)
	})
}

func (x *tx) deleteJob(j *job) {
	for t := range x.jobTargets(j.ID) {
		x.putTarget(t, nil)
	}
	x.delete(tableJobs, j)
	x.touch(topicJob, j.ID)
	x.touch(topicJobs, "")
}
