package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// heartbeat is how often a stream without changes sends an empty frame.
const heartbeat = 10 * time.Second

// subscribe follows many reads in one stream; see api.Subscription.
//
// Each query is the read that its route's handler returns for a GET, so that a
// result is byte for byte what a GET would have answered at that index, and shares
// its view with those GETs and with all other streams.
func (a *API) subscribe(rq *request) (any, error) {
	var sub api.Subscription
	if err := decode(rq.body, nil, &sub); err != nil {
		return nil, err
	}
	if len(sub.Queries) > api.MaxSubscribedQueries {
		return nil, api.Errorf(http.StatusRequestEntityTooLarge,
			"Subscription has too many queries (%d > %d)", len(sub.Queries), api.MaxSubscribedQueries)
	}
	s := &stream{rq: rq, queries: make(map[string]*subscribed, len(sub.Queries))}
	for i := range sub.Queries {
		q := &sub.Queries[i]
		if s.queries[q.ID] != nil {
			return nil, badRequest(fmt.Sprintf("two queries have the ID %q", q.ID))
		}
		s.queries[q.ID] = &subscribed{path: q.Path, hash: q.Hash}
	}
	if err := a.cfg.Cluster.Views().AwaitIndex(rq.ctx, sub.Index); err != nil {
		return nil, err
	}
	rq.body = nil // the stream may be long; the body is needed only to ask another leader before it begins
	return http.HandlerFunc(s.serve), nil
}

func subscribeLimit(*Config) (int64, string) { return api.MaxSubscriptionSize, "" }

// checkFollowed refuses a subscription to a path that http_config.block_endpoints
// blocks here. The server that the subscription is forwarded to does not have that list.
func checkFollowed(rq *request) error {
	if !rq.public || len(rq.api.cfg.BlockEndpoints) == 0 {
		return nil
	}
	var sub api.Subscription
	if err := decode(rq.body, nil, &sub); err != nil {
		return err
	}
	for _, q := range sub.Queries {
		u, err := url.ParseRequestURI(q.Path)
		if err != nil {
			continue // the result of that query says so
		}
		if rq.api.follow(u); rq.api.blocked(u.Path) {
			return api.Errorf(http.StatusForbidden, "%s: %s", textBlocked, u.Path)
		}
	}
	return nil
}

// stream writes frames until the client hangs up, the leader is another or the
// agent stops. A client that reads slowly gets the newest state, not every one:
// while a frame is being written nothing is evaluated, and nothing is kept but
// which queries to look at.
type stream struct {
	rq      *request
	queries map[string]*subscribed // by ID
}

// subscribed is one query of a stream. That, and a waiter at its view, is all
// that a subscribed query costs.
type subscribed struct {
	path string
	hash string // of what the client has
}

func (s *stream) serve(w http.ResponseWriter, _ *http.Request) {
	follower := s.rq.api.cfg.Cluster.Views().Follow()
	defer follower.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := lines{w: w, control: http.NewResponseController(w)}
	frame := frame{results: s.follow(follower)}
	for began := false; ; began = true {
		index, changes, err := follower.Next(s.rq.ctx, heartbeat)
		if err == nil {
			frame.index = index
			err = s.add(&frame, changes)
		}
		if err != nil {
			_ = out.send(api.Frame{Error: endOf(s.rq.ctx)})
			return
		}
		if began && len(changes) > 0 && len(frame.results) == 0 {
			continue // it has changed, and changed back
		}
		if out.frame(&frame) != nil {
			return
		}
		frame.results = nil
	}
}

// endOf is the text of the last frame. It tells the client why the stream ends, so that
// it does not take that for a fault of the network.
func endOf(ctx context.Context) string {
	if cause := context.Cause(ctx); isNoLeader(cause) {
		return api.TextNoLeader
	}
	return ErrStopping.Error()
}

// follow begins to follow all queries, but for those whose path cannot be followed:
// they have an error as their result already.
func (s *stream) follow(f *view.Follower) (failed []result) {
	for _, id := range sortedKeys(s.queries) {
		q := s.queries[id]
		sub, _, err := s.read(q.path)
		if err != nil {
			if enc := failedForm(err); enc.Hash != q.hash {
				failed = append(failed, result{id: id, index: 1, form: &enc})
			}
			continue
		}
		f.Add(id, sub.viewKey(), func(sn *state.Snapshot) view.Answer { return s.ask(q.path, sn) })
	}
	return failed
}

// ask runs the query behind a path, which is read again each time: thousands of
// queries are followed, and few of them change.
func (s *stream) ask(path string, sn *state.Snapshot) view.Answer {
	_, r, err := s.read(path)
	if err != nil {
		return view.Answer{Value: err, Meta: state.Meta{Index: 1}}
	}
	return r.query(sn)
}

// form is what a frame says of an answer to a path.
func (s *stream) form(path string, ans view.Answer) (*view.Encoded, error) {
	return ans.Encoding.Make(view.Frame, func() (view.Encoded, error) {
		sub, r, err := s.read(path)
		if err != nil {
			return failedForm(err), nil
		}
		v, err := r.of(ans)
		if err != nil {
			return failedForm(err), nil
		}
		return sub.form(v, ans.Encoding)
	})
}

// add puts into a frame the results that the client does not have yet.
func (s *stream) add(out *frame, changes []view.Change) error {
	for _, c := range changes {
		q := s.queries[c.Name]
		form, err := s.form(q.path, c.Answer)
		if err != nil {
			return err
		}
		if q.hash == form.Hash {
			continue
		}
		q.hash = form.Hash
		out.results = append(out.results, result{c.Name, max(c.Answer.Meta.Index, 1), form})
	}
	return nil
}

// read is what a GET of path asks for, as if the stream's client had sent it.
func (s *stream) read(path string) (*request, read, error) {
	parent := s.rq
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, read{}, badRequest("path cannot be read: " + path)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, read{}, badRequest("parameters cannot be read: " + u.RawQuery)
	}
	rt, name := parent.api.follow(u)
	notFollowed := api.Errorf(http.StatusNotFound, "%s is no path that can be followed", u.Path)
	if rt == nil || !rt.followable() {
		return nil, read{}, notFollowed
	}
	r := parent.r.WithContext(parent.ctx)
	r.Method, r.URL, r.Body, r.ContentLength = http.MethodGet, u, http.NoBody, 0
	sub := &request{api: parent.api, w: discard{}, r: r, ctx: parent.ctx, h: http.Header{}, route: rt, name: name}
	sub.values = values
	if err := sub.parse(); err != nil {
		return nil, read{}, err
	}
	v, err := rt.handle(sub.api, sub)
	if err != nil {
		return nil, read{}, err
	}
	asked, isRead := asRead(v)
	if !isRead {
		return nil, read{}, notFollowed
	}
	return sub, asked, nil
}

// follow finds the route of a path as a client does who follows the redirects of
// locate, and makes u what it ends at.
func (a *API) follow(u *url.URL) (*route, string) {
	u.Path, u.RawPath = cleanPath(u.Path), ""
	rt, name, slash := a.table.find(u.Path)
	if slash {
		u.Path += "/"
		rt, name, _ = a.table.find(u.Path)
	}
	return rt, name
}

// discard is the http.ResponseWriter of answers that are part of a frame: only their
// headers are read.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
