package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// dispatch runs the request where its route and its mode say.
//
//	the agent's own       -> here
//	client agent              -> a server
//	server, stale read        -> here, once it has applied what it knew
//	server, anything else     -> the leader, looked for until the hold timeout;
//	                             a short read: here, once it has caught up with the leader
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
	case rq.route.where == inside, rq.mode == stale && rq.readOnly():
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
	v, err := rq.route.handle(a, rq)
	if err != nil {
		rq.fail(err)
		return
	}
	rq.answer(v)
}

// runAtLeader looks for the leader, again whenever the one it found turns out
// not to be it, until the hold timeout ends.
func (a *API) runAtLeader(rq *request) {
	hold := a.cfg.HoldTimeout
	if rq.toLeader {
		hold = min(hold, leaderPatience)
	}
	rq.deadline = time.Now().Add(hold)
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := a.tryLeader(rq)
		if err == nil {
			return
		}
		if !isNoLeader(err) || rq.toLeader || time.Now().Add(pause).After(rq.deadline) {
			rq.fail(err)
			return
		}
		select {
		case <-time.After(pause):
		case <-rq.ctx.Done():
			rq.fail(rq.ctx.Err())
			return
		}
	}
}

// tryLeader asks the leader once. A nil error means that the request is
// answered; one that is no leader's, that nothing was done.
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
	cancel() // a blocking read that begins here needs no timer for that
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
	return a.cfg.Forward.ToLeader(rq.w, rq.outgoing(), rq.safe(), addr)
}

// fitsFollower tells reads of the replicated state. A blocking one would go on after
// its server has lost sight of the leader.
func (rq *request) fitsFollower() bool {
	return !rq.toLeader && rq.index == 0 && rq.route.kind != plain && rq.r.Method == http.MethodGet
}

// safe tells requests that may be sent twice, because they change nothing.
func (rq *request) safe() bool {
	switch rq.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return rq.route.path == api.SubscribePath
}

// outgoing is the request with the body that was read in, to be sent. It is a copy,
// because net/http goes by its own request's body and length when it gets the
// connection ready for the next one.
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
	case rq.r.Method == http.MethodGet, rq.route.path == txnPath, rq.route.path == api.SubscribePath:
		err = a.cfg.Cluster.AwaitCommitted(rq.ctx)
	}
	if err != nil {
		return err
	}
	asked := rq.ctx
	if rq.index > 0 || rq.route.takesLong() {
		var stop context.CancelFunc
		rq.ctx, stop = a.cfg.Cluster.WhileLeading(asked)
		defer stop()
	}
	v, err := rq.route.handle(a, rq)
	if err == nil {
		rq.answer(v) // a stream goes on here, and ends with the leadership
		return nil
	}
	deposed := rq.ctx.Err() != nil && isNoLeader(context.Cause(rq.ctx))
	rq.ctx = asked
	switch {
	case deposed && asked.Err() == nil && (rq.readOnly() || rq.route.takesLong()):
		// This server may lack what a blocked reader should have seen: the new
		// leader is asked for the rest of the time.
		rq.deadline = time.Now().Add(a.cfg.HoldTimeout)
		rq.shortenWait()
		return api.ErrNoLeader
	case isNoLeader(err):
		return err
	}
	rq.fail(err)
	return nil
}

// isNoLeader tells that nothing was done for want of a leader. A write whose outcome is
// unknown because the leadership ended under it wraps api.ErrNoLeader as well.
func isNoLeader(err error) bool {
	return errors.Is(err, api.ErrNoLeader) && !errors.Is(err, api.ErrUnknownWrite)
}

// readOnly tells requests that change nothing, and so may run on a follower.
func (rq *request) readOnly() bool {
	if rq.r.Method == http.MethodGet || rq.route.path == api.SubscribePath {
		return true
	}
	return rq.route.path == txnPath && rq.api.readOnlyTxn(rq.body)
}
