package httpapi

import (
	"strconv"

	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// read is what the handler of a read returns: what is asked of the state, and how
// the answer's value is shown (nil: as it is). A GET asks at once or blocks; a
// subscription asks whenever the answer may have changed. An error of show is the
// answer of one who asks for something that does not exist.
type read struct {
	query view.Query
	show  func(value any) (any, error)
}

// asks is a read whose answer is shown as it is. It returns the bare query: a function
// in an interface takes no allocation.
func asks(q view.Query) (any, error) { return q, nil }

// asRead returns the read that a handler has returned, if it was one.
func asRead(v any) (read, bool) {
	if q, bare := v.(view.Query); bare {
		return read{query: q}, true
	}
	r, ok := v.(read)
	return r, ok
}

// of is what the read shows of an answer to its query.
func (r read) of(ans view.Answer) (any, error) {
	if err, failed := ans.Value.(error); failed {
		return nil, err
	}
	if r.show == nil {
		return ans.Value, nil
	}
	return r.show(ans.Value)
}

// handle runs the handler, and where that returns a read, asks it.
func (rq *request) handle() (any, error) {
	v, err := rq.route.handle(rq.api, rq)
	r, isRead := asRead(v)
	if err != nil || !isRead {
		return v, err
	}
	ans, err := rq.ask(r.query)
	if err != nil {
		return nil, err
	}
	rq.encoding = ans.Encoding
	rq.setMeta(ans.Meta.Index)
	return r.of(ans)
}

// ask answers a query, blocking if the request says so.
func (rq *request) ask(q view.Query) (view.Answer, error) {
	views := rq.api.cfg.Cluster.Views()
	ans, err := views.Read(rq.ctx, rq.shareKey(), q, rq.index, rq.wait())
	if err != nil && stopping(rq.ctx) {
		return q(views.Snapshot()), nil
	}
	return ans, err
}

// setMeta sets the headers of a read. The index is never 0: clients would take
// that for "do not block".
func (rq *request) setMeta(index uint64) {
	h := rq.h
	h[api.HeaderIndex] = []string{strconv.FormatUint(max(index, 1), 10)}
	h[api.HeaderQueryBackend] = []string{"blocking-query"}
	rq.setContact()
	if rq.route.headers == discovery {
		h.Set(api.HeaderConsistency, rq.mode.String())
		if rq.has("cached") {
			h.Set("X-Cache", "MISS") // there is no cache here yet
		}
	}
}

func (rq *request) setContact() {
	if rq.mode != stale { // the leader answers
		rq.h[api.HeaderKnownLeader] = []string{"true"}
		rq.h[api.HeaderLastContact] = []string{"0"}
		return
	}
	known, contact := rq.api.cfg.Cluster.KnownLeader(), rq.api.cfg.Cluster.LastContact()
	rq.h.Set(api.HeaderKnownLeader, strconv.FormatBool(known))
	rq.h.Set(api.HeaderLastContact, strconv.FormatInt(max(contact.Milliseconds(), 0), 10))
}
