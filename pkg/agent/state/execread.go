package state

import (
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Job returns a job with its request, which is shared, and its targets in their
// order; nil if there is none.
func (sn *Snapshot) Job(id string) (*api.ExecJob, Meta) {
	r := sn.read()
	meta := r.meta(Watch{Topic: topicJob, Key: id})
	j := r.job(id)
	if j == nil {
		return nil, meta
	}
	out := j.describe()
	out.Request = &j.Request
	out.Targets = make([]api.ExecTarget, len(j.Targets))
	for t := range r.jobTargets(id) {
		out.Targets[t.Pos] = api.ExecTarget{
			Node: t.Node, State: t.State, Code: t.Code, Error: t.Error, Since: unixTime(t.Since),
			Chunks: t.Chunks, Truncated: t.Truncated,
		}
	}
	return out, meta
}

// Jobs lists all jobs in order of their ids, without their targets.
func (sn *Snapshot) Jobs() ([]*api.ExecJob, Meta) {
	r := sn.read()
	out := []*api.ExecJob{}
	for j := range scan[job](r, tableJobs, "id_prefix", nil) {
		out = append(out, j.describe())
	}
	return out, r.meta(watchTopic(topicJobs))
}

func (j *job) describe() *api.ExecJob {
	out := &api.ExecJob{
		ID: j.ID, Created: unixTime(j.Created), Ended: unixTime(j.Ended), Stopped: j.Stopped, Targets: []api.ExecTarget{},
		CreateIndex: j.CreateIndex, ModifyIndex: j.ModifyIndex,
	}
	o, err := ReadOrder(j.Request.Order)
	if err != nil {
		return out // createJob has read it
	}
	out.Job, out.By = o.Job, o.By
	out.Command = strings.Join(append(o.Command, o.Args...), " ")
	if len(o.Script) > 0 {
		out.Command = strings.TrimSpace("(script) " + out.Command)
	}
	return out
}

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// JobCalls lists the targets that the agent of a node has to run, runs or has to
// stop. Lost targets are listed only if they are to be stopped.
func (sn *Snapshot) JobCalls(node string) ([]api.ExecCall, Meta) {
	r := sn.read()
	out := []api.ExecCall{}
	for t := range scan[jobTarget](r, tableJobTargets, "node", nodeKey(node)) {
		j := r.job(t.Job)
		if t.orphaned() && j.Stopped != api.ExecStoppedByUser {
			continue
		}
		out = append(out, api.ExecCall{
			Job: t.Job, State: t.State, Claim: t.Claim,
			Stop: j.Stopped == api.ExecStoppedByUser, Request: j.Request,
		})
	}
	return out, r.meta(watchName(topicCalls, node))
}

// OpenTarget is a target that is called or running.
type OpenTarget struct {
	Job, Node string
	State     string
	Claim     string
	Since     time.Time
	Wait      time.Duration // limit until it is claimed
	Timeout   time.Duration // limit of its run; 0: none
	Alive     bool          // the node is registered and not known to have failed
}

// OpenTargets lists the targets of all jobs that are called or running.
func (sn *Snapshot) OpenTargets() ([]OpenTarget, Meta) {
	r := sn.read()
	out := []OpenTarget{}
	watches := []Watch{watchTopic(topicJobs)}
	for t := range scan[jobTarget](r, tableJobTargets, "node_prefix", nil) {
		if !t.open() {
			continue
		}
		n, j := r.node(t.Node), r.job(t.Job)
		watches = append(watches, watchName(topicNode, t.Node), watchName(topicNodeChecks, t.Node))
		out = append(out, OpenTarget{
			Job: t.Job, Node: t.Node, State: t.State, Claim: t.Claim, Since: unixTime(t.Since),
			Wait: j.Wait, Timeout: j.Timeout, Alive: n != nil && !r.serfCritical(n),
		})
	}
	return out, r.meta(watches...)
}

// NextJobReap is when the next job is to be removed, zero for none.
func (sn *Snapshot) NextJobReap() time.Time {
	var first int64
	for j := range scan[job](sn.read(), tableJobs, "id_prefix", nil) {
		if j.Ended != 0 && (first == 0 || j.Ended < first) {
			first = j.Ended
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return unixTime(first).Add(api.ExecRetention)
}

// ExecFilter selects nodes by name, and by an instance whose service name or id
// matches Service and one of whose tags matches Tag. Nil matches all.
type ExecFilter struct {
	Node, Service, Tag interface{ MatchString(string) bool }
}

// ExecCandidates lists the nodes that a filter selects, in order of names.
func (sn *Snapshot) ExecCandidates(f ExecFilter) []api.ExecCandidate {
	r := sn.read()
	out := []api.ExecCandidate{}
	for row := range scan[nodeRow](r, tableNodes, "id_prefix", nil) {
		n := row.Node
		if f.Node != nil && !f.Node.MatchString(n.Node) || !r.runsService(n.Node, f) {
			continue
		}
		out = append(out, api.ExecCandidate{Node: n.Node, Alive: !r.serfCritical(n)})
	}
	return out
}

func (r reader) runsService(node string, f ExecFilter) bool {
	if f.Service == nil {
		return true
	}
	for i := range r.instancesOf(node) {
		s := i.Service
		if !f.Service.MatchString(s.Service) && !f.Service.MatchString(s.ID) {
			continue
		}
		if f.Tag == nil {
			return true
		}
		for _, tag := range s.Tags {
			if f.Tag.MatchString(tag) {
				return true
			}
		}
	}
	return false
}
