package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

const (
	// bodyTimeout is how long a client may take to send its body.
	bodyTimeout = 30 * time.Second
	// maxLeaderWait is how long a server that is addressed as the leader waits to become
	// ready. The sender can search for another one.
	maxLeaderWait = time.Second
	// trustedLength is the longest announced body, in bytes, that memory is allocated for
	// before it arrives.
	trustedLength = 16 << 10

	minBackoff = 20 * time.Millisecond // between searches for the leader
	maxBackoff = 500 * time.Millisecond
)

// Texts of the API's outside.
const (
	textUnknownPath = "Invalid URL path: not a recognized HTTP API endpoint\n"
	textNoBase      = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	textBlocked     = "Endpoint is blocked by agent configuration"
	textUIDisabled  = "Consul Agent: UI disabled. To enable, set ui_config.enabled=true in the agent configuration and restart."
)

// request is one request on its way through the dispatcher to its handler.
type request struct {
	api   *API
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	h     http.Header // of the answer
	route *route
	name  string // what follows the route's path
	body  []byte
	origin
	wrote bool // an answer has begun

	encoding *view.Encoding // of what was read, where it is shared

	params
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, from origin) {
	rq := &request{api: a, w: w, r: r, ctx: r.Context(), h: w.Header(), origin: from}
	var began time.Time
	if a.cfg.Logger.Enabled(rq.ctx, slog.LevelDebug) {
		began = time.Now()
	}
	defer func() { a.finish(rq, began, recover()) }()
	if from.public {
		for name, value := range a.cfg.ResponseHeaders {
			rq.h.Set(name, value)
		}
	}
	if !a.locate(rq) || !a.precheck(rq) {
		return
	}
	if err := rq.readBody(); err != nil {
		rq.fail(err)
		return
	}
	if err := rq.parse(); err != nil {
		rq.fail(err)
		return
	}
	if complete := rq.route.complete; complete != nil && !rq.forwarded {
		if err := complete(rq); err != nil {
			rq.fail(err)
			return
		}
	}
	a.dispatch(rq)
}

// locate finds the route, or answers that there is none.
func (a *API) locate(rq *request) bool {
	p := rq.r.URL.Path
	if rt, name := a.findEscaped(rq.r.URL); rt != nil && rt.served(rq.origin) {
		rq.route, rq.name = rt, name
		return true
	}
	if strings.ContainsFunc(p, unprintable) || !strings.HasPrefix(p, "/") {
		rq.text(http.StatusBadRequest, "")
		return false
	}
	if clean := cleanPath(p); clean != p {
		if _, _, slash := a.table.find(clean); slash {
			clean += "/" // "/v1/kv/." is the route, not a name in it: one redirect is enough
		}
		rq.redirect(clean)
		return false
	}
	rt, name, redirect := a.table.find(p)
	switch {
	case redirect:
		rq.redirect(p + "/")
	case rt != nil && rt.served(rq.origin):
		rq.route, rq.name = rt, name
		return true
	case p == "/":
		rq.text(http.StatusOK, textUIDisabled)
	case strings.Contains(p, "/v1/"):
		rq.text(http.StatusNotFound, textUnknownPath)
	default:
		rq.text(http.StatusNotFound, textNoBase)
	}
	return false
}

// findEscaped finds the route of a path whose percent-encoded name would otherwise be
// cleaned or refused, so that a path can name every id that was registered in a body.
// The reference refuses such paths. Keys are excluded: their paths mean what they mean
// to the reference.
func (a *API) findEscaped(u *url.URL) (*route, string) {
	if u.RawPath == "" && !strings.ContainsFunc(u.Path, unprintable) {
		return nil, ""
	}
	raw := u.EscapedPath()
	rt, escaped, _ := a.table.find(raw)
	if rt == nil || escaped == "" || rt.literal || cleanPath(raw) != raw {
		return nil, ""
	}
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, ""
	}
	return rt, name
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

// cleanPath resolves empty, "." and ".." segments and keeps a trailing slash.
func cleanPath(p string) string {
	clean := path.Clean(p)
	if clean != "/" && strings.HasSuffix(p, "/") {
		clean += "/"
	}
	return clean
}

// precheck answers what needs no handler: refusals, OPTIONS, a query string that
// cannot be read.
func (a *API) precheck(rq *request) bool {
	h := rq.h
	h[api.HeaderDefaultACL] = []string{"allow"}
	h["Vary"] = []string{"Accept-Encoding"}
	method := rq.r.Method
	switch {
	case rq.public && a.blocked(rq.r.URL.Path):
		rq.text(http.StatusForbidden, textBlocked)
		return false
	case rq.public && !rq.route.safe(method) && !a.mayWrite(rq.r):
		rq.text(http.StatusForbidden, "Access is restricted")
		return false
	case method == http.MethodOptions:
		h.Set("Allow", rq.route.allow())
		rq.text(http.StatusOK, "")
		return false
	case !rq.route.allows(method):
		h.Set("Allow", rq.route.allow())
		rq.text(http.StatusMethodNotAllowed, "method "+method+" not allowed")
		return false
	}
	if rq.r.URL.RawQuery == "" {
		return true // nil is empty
	}
	values, err := url.ParseQuery(rq.r.URL.RawQuery)
	if err != nil {
		rq.text(http.StatusInternalServerError, "")
		return false
	}
	rq.values = values
	return true
}

func (a *API) blocked(p string) bool {
	for _, prefix := range a.cfg.BlockEndpoints {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return false
}

// mayWrite says whether who sent a request may write here.
func (a *API) mayWrite(r *http.Request) bool {
	if len(a.cfg.AllowWriteFrom) == 0 {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	for _, net := range a.cfg.AllowWriteFrom {
		if net.Contains(from.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// readBody takes the whole body in, up to the route's limit, so that a request
// can be sent again to another server, and drops the body of a read.
func (rq *request) readBody() error {
	r := rq.r
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		if r.ContentLength != 0 {
			rq.api.cfg.Logger.Debug("request has a body that is ignored", "method", r.Method, "path", r.URL.Path)
		}
		return nil
	}
	limit, hint := int64(api.MaxBodySize), ""
	if given := rq.route.limit; given != nil {
		limit, hint = given(&rq.api.cfg)
	}
	if r.ContentLength > limit {
		return rq.tooLarge(r.ContentLength, limit, hint)
	}
	if r.ContentLength == 0 {
		return nil // net/http waits for the client's end already: no deadline for that
	}
	// An error means that the server has no deadlines. The server clears it with the body.
	_ = http.NewResponseController(rq.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := readAll(r.Body, r.ContentLength, limit+1)
	if err != nil {
		rq.closeAfter()
		return api.Errorf(http.StatusBadRequest, "read request body: %v", err)
	}
	if int64(len(body)) > limit {
		return rq.tooLarge(int64(len(body)), limit, hint)
	}
	rq.body = body
	return nil
}

// readAll reads a body to its end or to the limit in bytes. A short body with a known
// length takes one allocation.
func readAll(body io.Reader, length, limit int64) ([]byte, error) {
	if length < 0 || length > trustedLength {
		return io.ReadAll(io.LimitReader(body, limit))
	}
	b := make([]byte, length)
	_, err := io.ReadFull(body, b)
	return b, err
}

// tooLarge refuses a body that is too large; one without a Content-Length is
// read only as far as the limit.
func (rq *request) tooLarge(n, limit int64, hint string) error {
	rq.closeAfter()
	return api.Errorf(http.StatusRequestEntityTooLarge,
		"Request body(%d bytes) too large, max size: %d bytes.%s", n, limit, hint)
}

// closeAfter closes the connection after the answer, because the request was not read
// to its end. HTTP/2 resets the one stream by itself.
func (rq *request) closeAfter() {
	if rq.r.ProtoMajor == 1 {
		rq.h.Set("Connection", "close")
	}
}

// finish logs the request, and turns a handler's panic into an answer. A panic
// after the answer began breaks the connection, so that half an answer is never
// taken for a whole one.
func (a *API) finish(rq *request, began time.Time, panicked any) {
	log := a.cfg.Logger
	if panicked == nil {
		if !log.Enabled(rq.ctx, slog.LevelDebug) {
			return
		}
		log.Debug("request finished", "method", rq.r.Method, "url", loggable(rq.r.URL),
			"from", rq.r.RemoteAddr, "latency", time.Since(began))
		return
	}
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	log.Error("request handler panicked", "method", rq.r.Method, "url", loggable(rq.r.URL),
		"panic", panicked, "stack", string(debug.Stack()))
	if rq.wrote {
		panic(http.ErrAbortHandler)
	}
	rq.text(http.StatusInternalServerError, "internal error; the agent's log says more")
}

// loggable is the URL without secrets.
func loggable(u *url.URL) string {
	if !strings.Contains(u.RawQuery, "token") {
		return u.RequestURI()
	}
	hidden := *u
	q := hidden.Query()
	if q.Has("token") {
		q.Set("token", "<hidden>")
	}
	hidden.RawQuery = q.Encode()
	return hidden.RequestURI()
}
