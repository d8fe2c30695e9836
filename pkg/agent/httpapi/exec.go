package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// execTargets lists the nodes that the filters select.
func (a *API) execTargets(rq *request) (any, error) {
	if rq.param("tag") != "" && rq.param("service") == "" {
		return nil, badRequest("Cannot provide tag filter without service filter")
	}
	var f state.ExecFilter
	for name, to := range map[string]*interface{ MatchString(string) bool }{"node": &f.Node, "service": &f.Service, "tag": &f.Tag} {
		if rq.param(name) == "" {
			continue
		}
		re, err := regexp.Compile(rq.param(name))
		if err != nil {
			return nil, badRequest(fmt.Sprintf("Invalid %s filter: %v", name, err))
		}
		*to = re
	}
	return a.cfg.Cluster.Views().Snapshot().ExecCandidates(f), nil
}

// execStart begins a job. Each target's own policy decides whether it runs there.
func (a *API) execStart(rq *request) (any, error) {
	var r api.ExecRequest
	if err := decode(rq.body, nil, &r); err != nil {
		return nil, err
	}
	o, err := state.ReadOrder(r.Order)
	if err != nil {
		return nil, badRequest(err.Error())
	}
	if err := a.checkDatacenter(o.Datacenter); err != nil {
		return nil, err
	}
	if !time.Now().Before(o.Expires) {
		return nil, badRequest(fmt.Sprintf("the order expired at %s: it is %s here", o.Expires.Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)))
	}
	if _, err := a.propose(rq, &state.JobCreate{Request: r}, ""); err != nil {
		return nil, err
	}
	a.cfg.Logger.Info("remote execution ordered", "job", o.ID, "by", o.By, "key", r.Key, "from", rq.r.RemoteAddr,
		"name", o.Job, "command", o.Command, "script_bytes", len(o.Script), "targets", len(o.Targets))
	a.cfg.Call(o.ID, o.Targets)
	return map[string]string{"ID": o.ID}, nil
}

func (a *API) execStop(rq *request) (any, error) {
	found, err := a.propose(rq, &state.JobStop{Job: rq.name}, "")
	if err == nil && found == false {
		return nil, errNoJob(rq.name)
	}
	return found, err
}

func errNoJob(id string) error {
	return api.Errorf(http.StatusNotFound, "there is no job %q: jobs are forgotten an hour after their end", id)
}

func (a *API) execJob(rq *request) (any, error) {
	query := func(sn *state.Snapshot) view.Answer {
		j, meta := sn.Job(rq.name)
		if j != nil && !rq.has("request") {
			j.Request = nil
		}
		return view.Answer{Value: j, Meta: meta, Missing: j == nil}
	}
	return read{query, func(v any) (any, error) {
		if v.(*api.ExecJob) == nil {
			return nil, errNoJob(rq.name)
		}
		return v, nil
	}}, nil
}

func (a *API) execJobs(rq *request) (any, error) {
	return asks(func(sn *state.Snapshot) view.Answer {
		all, meta := sn.Jobs()
		slices.SortFunc(all, func(a, b *api.ExecJob) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
		return view.Answer{Value: all, Meta: meta}
	})
}

// execOutput streams the output of a job's targets as it arrives at the leader.
func (a *API) execOutput(rq *request) (any, error) {
	var f api.ExecFollow
	if err := decode(rq.body, nil, &f); err != nil {
		return nil, err
	}
	if len(f.Have) > api.MaxExecTargets {
		return nil, badRequest(fmt.Sprintf("more than %d nodes", api.MaxExecTargets))
	}
	if j, _ := a.cfg.Cluster.Views().Snapshot().Job(rq.name); j == nil {
		return nil, errNoJob(rq.name)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reader := a.cfg.Relay.Read(rq.name, f.Have)
		defer reader.Close()
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := lines{w: w, control: http.NewResponseController(w)}
		if out.control.Flush() != nil { // so that the client gets the headers at once
			return
		}
		for {
			news, err := reader.Next(rq.ctx, heartbeat)
			if err != nil {
				_ = out.send(api.ExecOutput{Error: endOf(rq.ctx)})
				return
			}
			if len(news) == 0 {
				news = []api.ExecOutput{{}}
			}
			for _, n := range news {
				if out.send(n) != nil {
					return
				}
			}
		}
	}), nil
}

// The routes below are between nodes and the leader.

func (a *API) execCalls(rq *request) (any, error) {
	return asks(func(sn *state.Snapshot) view.Answer {
		calls, meta := sn.JobCalls(rq.name)
		return view.Answer{Value: calls, Meta: meta}
	})
}

func (a *API) execClaim(rq *request) (any, error) {
	return a.propose(rq, &state.JobClaim{Job: rq.param("job"), Node: rq.name, Claim: rq.param("claim")}, "")
}

func (a *API) execReport(rq *request) (any, error) {
	var results []api.ExecResult
	if err := decode(rq.body, nil, &results); err != nil {
		return nil, err
	}
	return a.propose(rq, &state.JobReport{Results: results}, "")
}

func (a *API) execPush(rq *request) (any, error) {
	var in exec.Pushed
	if err := json.Unmarshal(rq.body, &in); err != nil {
		return nil, badRequest(err.Error())
	}
	seq, err := rq.number("seq")
	if err != nil {
		return nil, err
	}
	return exec.Next{Next: a.cfg.Relay.Push(rq.ctx, rq.param("job"), rq.name, seq, in.Chunks)}, nil
}

func (a *API) execWanted(rq *request) (any, error) {
	var in exec.Wanted
	if err := json.Unmarshal(rq.body, &in); err != nil {
		return nil, badRequest(err.Error())
	}
	return exec.Wanted{Jobs: a.cfg.Relay.Wanted(rq.ctx, rq.name, in.Jobs)}, nil
}
