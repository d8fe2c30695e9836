package server

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

// reportGrace is how much longer than its time a run may take to be reported.
const reportGrace = 30 * time.Second

// expireJobs gives up, while this server leads, the targets of jobs that nobody will
// answer for, and forgets jobs that ended long ago. Nodes had no leader to answer
// to before, so their time begins with this tenure.
func (s *Server) expireJobs(ctx context.Context) {
	began := time.Now()
	open := func(snap *state.Snapshot) view.Answer {
		targets, meta := snap.OpenTargets()
		return view.Answer{Value: targets, Meta: meta}
	}
	backoff := retry.Backoff{First: firstRetry, Max: lastRetry}
	for ctx.Err() == nil {
		snap := s.views.Snapshot()
		targets, meta := snap.OpenTargets()
		lost, wait := lostTargets(targets, time.Now(), began)
		var cmd state.Command
		if len(lost) > 0 {
			cmd = &state.JobReport{Results: lost}
		} else if at := snap.NextJobReap(); !at.IsZero() {
			if wait = min(wait, time.Until(at)); wait <= 0 {
				cmd = &state.JobReap{}
			}
		}
		if cmd == nil {
			_, _ = s.views.Read(ctx, "", open, meta.Index, max(wait, time.Millisecond)) // an error is ctx's
			continue
		}
		if _, err := s.proposeOwn(ctx, cmd); err == nil {
			backoff.Reset()
		} else if ctx.Err() == nil {
			pause := backoff.Next()
			s.cfg.Logger.Warn("could not bring the jobs up to date; trying again", "error", err, "in", pause)
			_ = retry.Sleep(ctx, pause) // an error is ctx's
		}
	}
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
