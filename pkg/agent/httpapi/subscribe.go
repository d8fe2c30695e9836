package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// heartbeat is how often a quiet stream says that it lives.
const heartbeat = 10 * time.Second

// subscribe follows many reads in one stream; see api.Subscription.
//
// Each query runs the very handler of its route, at a snapshot that it is given
// instead of the newest one, so that a result is byte for byte what a GET would
// have answered at that index.
func (a *API) subscribe(rq *request) (any, error) {
	var sub api.Subscription
	if err := decode(rq.body, nil, &sub); err != nil {
		return nil, err
	}
	if len(sub.Queries) > api.MaxSubscribedQueries {
		return nil, api.Errorf(http.StatusRequestEntityTooLarge,
			"Subscription has too many queries (%d > %d)", len(sub.Queries), api.MaxSubscribedQueries)
	}
	s := &stream{rq: rq, follower: a.cfg.Cluster.Views().Follow(), have: map[string]string{}}
	for _, q := range sub.Queries {
		if _, twice := s.have[q.ID]; twice {
			return nil, badRequest(fmt.Sprintf("two queries have the ID %q", q.ID))
		}
		s.have[q.ID] = q.Hash
		s.follower.Add(q.ID, a.followed(rq, q.Path))
	}
	if err := a.cfg.Cluster.Views().AwaitIndex(rq.ctx, sub.Index); err != nil {
		return nil, err
	}
	return http.HandlerFunc(s.serve), nil
}

// followed makes the query that answers a path. A path that cannot be followed
// yields a result that says so: the others on the stream are no worse for it.
func (a *API) followed(parent *request, path string) view.Query {
	sub, err := a.subRequest(parent, path)
	return func(sn *state.Snapshot) view.Answer {
		if err != nil {
			return view.Answer{Value: failedResult(err), Meta: state.Meta{Index: 1}}
		}
		at := *sub
		at.at = sn
		v, err := at.route.handle(a, &at)
		if err != nil {
			return view.Answer{Value: failedResult(err), Meta: at.meta}
		}
		return view.Answer{Value: at.result(v), Meta: at.meta}
	}
}

// subRequest is a GET of path as if its client had sent it.
func (a *API) subRequest(parent *request, path string) (*request, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, badRequest("path cannot be read: " + path)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, badRequest("parameters cannot be read: " + u.RawQuery)
	}
	rt, name, _ := a.table.find(u.Path)
	if rt == nil || rt.kind == plain || !rt.allows(http.MethodGet) {
		return nil, api.Errorf(http.StatusNotFound, "%s is no path that can be followed", u.Path)
	}
	r := parent.r.Clone(parent.ctx)
	r.Method, r.URL, r.Body, r.ContentLength = http.MethodGet, u, http.NoBody, 0
	sub := &request{api: a, w: discard{}, r: r, ctx: parent.ctx, route: rt, name: name}
	sub.values = values
	return sub, sub.parse()
}

// discard takes the headers of answers that are part of a frame.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func failedResult(err error) api.SubscribedResult {
	code, text := statusOf(err)
	return hashed(api.SubscribedResult{Status: code, Error: text})
}

func (rq *request) result(v any) api.SubscribedResult {
	status := http.StatusOK
	if r, ok := v.(reply); ok {
		status, v = r.status, r.value
	}
	body, err := json.Marshal(v)
	if err != nil {
		return failedResult(err)
	}
	return hashed(api.SubscribedResult{Status: status, Body: body})
}

func hashed(r api.SubscribedResult) api.SubscribedResult {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s\n", r.Status, r.Error)
	sum.Write(r.Body)
	r.Hash = hex.EncodeToString(sum.Sum(nil)[:16])
	return r
}

// stream writes frames until the client hangs up, the leader is another or the
// agent stops. A client that reads slowly gets the newest state, not every one:
// while a frame is being written nothing is evaluated.
type stream struct {
	rq       *request
	follower *view.Follower
	have     map[string]string // hash of what the client has, by ID
}

func (s *stream) serve(w http.ResponseWriter, _ *http.Request) {
	defer s.follower.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := lines{w: w, control: http.NewResponseController(w)}
	for {
		frame, err := s.follower.Next(s.rq.ctx, heartbeat)
		if err != nil {
			_ = out.send(api.Frame{Error: endOf(s.rq.ctx)})
			return
		}
		if out.send(s.differences(frame)) != nil {
			return
		}
	}
}

// endOf is the last frame's text: who subscribes again elsewhere needs to know
// that it is not the network.
func endOf(ctx context.Context) string {
	if cause := context.Cause(ctx); isNoLeader(cause) {
		return api.ErrNoLeader
	}
	return ErrStopping.Error()
}

func (s *stream) differences(f view.Frame) api.Frame {
	out := api.Frame{Index: f.Index}
	for _, id := range sortedKeys(f.Changed) {
		ans := f.Changed[id]
		r := ans.Value.(api.SubscribedResult)
		if s.have[id] == r.Hash {
			continue
		}
		s.have[id] = r.Hash
		r.ID, r.Index = id, max(ans.Meta.Index, 1)
		out.Results = append(out.Results, r)
	}
	return out
}

// lines writes JSON, a value a line, each at once.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

func (l *lines) send(v any) error {
	l.buf.Reset()
	if err := json.NewEncoder(&l.buf).Encode(v); err != nil {
		return err
	}
	limit := writeGrace + time.Duration(l.buf.Len()/slowestClient)*time.Second
	_ = l.control.SetWriteDeadline(time.Now().Add(limit))
	if _, err := l.w.Write(l.buf.Bytes()); err != nil {
		return err
	}
	return l.control.Flush()
}
