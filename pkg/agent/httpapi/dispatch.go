package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

// dispatch runs the request where its route and its mode say.
//
//	the agent's own           -> here
//	client agent              -> any server
//	server, stale read        -> here, when everything that was committed before the start is applied
//	server, anything else     -> the leader, searched for until the hold timeout;
//	                             a read that does not block: here, after catching up with the leader
func (a *API) dispatch(rq *request) {
	switch {
	case rq.route.where == here, rq.route.where == port:
		a.run(rq)
	case a.cfg.Cluster == nil:
		if err := a.toServer(rq); err != nil {
			rq.fail(err)
		}
	case rq.route.where == anyServer:
		a.run(rq)
	case rq.route.where == inside, rq.mode == stale && !rq.route.leaderOnly && rq.readOnly():
		if err := a.cfg.Cluster.AwaitStale(rq.ctx); err != nil {
			rq.fail(err)
			return
		}
		a.run(rq)
	default:
		a.runAtLeader(rq)
	}
}

func (a *API) run(rq *request) {
	v, err := rq.handle()
	if err != nil {
		rq.fail(err)
		return
	}
	rq.answer(v)
}

// runAtLeader searches for the leader until the hold timeout. It tries again when the
// server that it found does not lead.
func (a *API) runAtLeader(rq *request) {
	hold := a.cfg.HoldTimeout
	if rq.toLeader {
		hold = min(hold, maxLeaderWait)
	}
	rq.deadline = time.Now().Add(hold)
	backoff := retry.Backoff{First: minBackoff, Max: maxBackoff}
	for {
		err := a.tryLeader(rq)
		if err == nil {
			return
		}
		pause := backoff.Next()
		if !isNoLeader(err) || rq.toLeader || time.Now().Add(pause).After(rq.deadline) {
			rq.fail(err)
			return
		}
		if retry.Sleep(rq.ctx, pause) != nil {
			rq.fail(rq.ctx.Err())
			return
		}
	}
}

// tryLeader has the leader answer once. A nil error means that the request is
// answered, api.ErrNoLeader that nothing was done.
func (a *API) tryLeader(rq *request) error {
	if a.cfg.Cluster.Leads() {
		return a.runAsLeader(rq)
	}
	if rq.fitsFollower() && a.cfg.Cluster.CatchUp(rq.ctx, rq.mode == consistent) {
		a.run(rq)
		return nil
	}
	ctx, cancel := context.WithDeadline(rq.ctx, rq.deadline)
	self, addr, err := a.cfg.Cluster.AwaitLeader(ctx)
	cancel() // a blocking read that begins here does not need the timer
	switch {
	case errors.Is(err, context.DeadlineExceeded) && rq.ctx.Err() == nil:
		return api.ErrNoLeader
	case err != nil:
		return err
	case self:
		return a.runAsLeader(rq)
	case rq.forwards == 0:
		return api.ErrNoLeader
	}
	return a.cfg.Forward.ToLeader(rq.w, rq.outgoing(), rq.route.safe(rq.r.Method), addr)
}

// fitsFollower says whether a follower that has caught up may answer: a read of the
// replicated state that does not block. A blocked one would go on after the follower
// has lost contact with the leader.
func (rq *request) fitsFollower() bool {
	return !rq.toLeader && rq.index == 0 && rq.route.headers != plain && rq.r.Method == http.MethodGet
}

// outgoing is the request to forward, with the body that was read. It is a copy:
// net/http uses the body and length of its own request to prepare the connection for
// the next one.
func (rq *request) outgoing() *http.Request {
	r := rq.r.WithContext(rq.r.Context())
	r.Body, r.ContentLength, r.GetBody = http.NoBody, 0, nil
	if body := rq.body; len(body) > 0 {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody() // which does not fail
		r.ContentLength = int64(len(body))
	}
	return r
}

func (a *API) runAsLeader(rq *request) error {
	var err error
	switch {
	case rq.mode == consistent && rq.readOnly():
		err = a.cfg.Cluster.VerifyLeader(rq.ctx)
	case rq.awaitsCommitted():
		err = a.cfg.Cluster.AwaitCommitted(rq.ctx)
	}
	if err != nil {
		return err
	}
	asked := rq.ctx
	if rq.index > 0 || rq.route.long {
		var stop context.CancelFunc
		rq.ctx, stop = a.cfg.Cluster.WhileLeading(asked)
		defer stop()
	}
	v, err := rq.handle()
	if err == nil {
		rq.answer(v) // a stream goes on here, and ends with the leadership
		return nil
	}
	deposed := rq.ctx.Err() != nil && isNoLeader(context.Cause(rq.ctx))
	rq.ctx = asked
	switch {
	case deposed && asked.Err() == nil && (rq.readOnly() || rq.route.long):
		// This server may lack what a blocked reader should have seen. The new leader
		// answers for the rest of the waiting time.
		rq.deadline = time.Now().Add(a.cfg.HoldTimeout)
		rq.shortenWait()
		return api.ErrNoLeader
	case isNoLeader(err):
		return err
	}
	rq.fail(err)
	return nil
}

// isNoLeader says whether nothing was done because there is no leader. The error of a
// write whose outcome is unknown may wrap api.ErrNoLeader too: the leadership ended
// during the write.
func isNoLeader(err error) bool {
	return errors.Is(err, api.ErrNoLeader) && !errors.Is(err, api.ErrUnknownWrite)
}
