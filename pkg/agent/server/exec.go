package server

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// reportGrace is how much longer than its timeout a run may take to be reported.
const reportGrace = 30 * time.Second

// reapJobs marks the targets of jobs as lost when their agents do not answer, and
// forgets jobs that ended long ago. Without a leader agents could not answer, so a
// target's time begins with this leadership at the earliest.
func (s *Server) reapJobs(ctx context.Context, _ *leadership) {
	began := time.Now()
	s.proposeDue(ctx, dueCommand{
		purpose: "bring the jobs up to date",
		watched: func(snap *state.Snapshot) view.Answer {
			targets, meta := snap.OpenTargets()
			return view.Answer{Value: targets, Meta: meta}
		},
		plan: func(snap *state.Snapshot, open any, _ bool) (state.Command, time.Duration) {
			lost, wait := lostTargets(open.([]state.OpenTarget), time.Now(), began)
			if len(lost) > 0 {
				return &state.JobReport{Results: lost}, 0
			}
			if at := snap.NextJobReap(); !at.IsZero() {
				if wait = min(wait, time.Until(at)); wait <= 0 {
					return &state.JobReap{}, 0
				}
			}
			return nil, wait
		},
	})
}

// lostTargets lists the targets that are lost, and says when to look again.
func lostTargets(targets []state.OpenTarget, now, began time.Time) (lost []api.ExecResult, wait time.Duration) {
	wait = recheckTime
	for _, t := range targets {
		since := t.Since
		if since.Before(began) {
			since = began
		}
		limit, why := t.Wait, fmt.Sprintf("its agent did not answer within %s", t.Wait)
		if t.State == api.ExecRunning {
			limit, why = t.Timeout, "its agent does not say how it ended"
			if limit > 0 {
				limit += reportGrace
			}
		}
		left := since.Add(limit).Sub(now)
		switch {
		case !t.Alive:
			lost = append(lost, api.ExecResult{Job: t.Job, Node: t.Node, From: t.State, State: api.ExecLost, Error: "the node failed, or has left"})
		case limit <= 0:
		case left <= 0:
			lost = append(lost, api.ExecResult{Job: t.Job, Node: t.Node, From: t.State, State: api.ExecLost, Error: why})
		default:
			wait = min(wait, left)
		}
	}
	return lost, wait
}
