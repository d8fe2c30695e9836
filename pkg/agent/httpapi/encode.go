package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/view"
)

// gzipFrom is the size in bytes from which answers are compressed.
const gzipFrom = 1400

// WriteGrace is how long a client has to take in an answer of common size.
const WriteGrace = 30 * time.Second

// Answers of more than largeAnswer bytes must be taken in at slowestClient bytes
// a second, with WriteGrace on top.
const (
	largeAnswer   = 64 << 10
	slowestClient = 32 << 10
)

const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)

// reply is an answer that is not simply 200 and JSON. A []byte value is written
// as it is.
type reply struct {
	status int
	ctype  string
	value  any
}

// answer writes what a handler returned: nil is an empty body, a handler of its
// own writes itself, everything else is JSON.
func (rq *request) answer(v any) {
	switch v := v.(type) {
	case nil:
		rq.write(http.StatusOK, "", nil)
	case reply:
		raw, isRaw := v.value.([]byte)
		if isRaw {
			rq.write(v.status, v.ctype, raw)
			return
		}
		rq.writeJSON(v.status, v.value)
	case http.Handler:
		rq.wrote = true
		v.ServeHTTP(rq.w, rq.r)
	default:
		rq.writeShared(v)
	}
}

// writeShared writes the answer of a read that others may have asked, too: its
// bytes are made once, and compressed once.
func (rq *request) writeShared(v any) {
	enc := rq.encoding
	if enc == nil || rq.has("pretty") {
		rq.writeJSON(http.StatusOK, v)
		return
	}
	body, err := enc.Make(view.Body, func() (view.Encoded, error) {
		b, err := rq.encode(v)
		return view.Encoded{Body: b}, err
	})
	if err != nil {
		rq.fail(err)
		return
	}
	if rq.compresses(body.Body) {
		body, _ = enc.Make(view.Gzip, func() (view.Encoded, error) {
			return view.Encoded{Body: rq.api.compress(body.Body)}, nil
		})
		rq.h.Set("Content-Encoding", "gzip")
	}
	rq.send(http.StatusOK, typeJSON, body.Body)
}

func (rq *request) writeJSON(status int, v any) {
	body, err := rq.encode(v)
	if err != nil {
		rq.fail(err)
		return
	}
	rq.write(status, typeJSON, body)
}

func (rq *request) encode(v any) ([]byte, error) {
	pretty := rq.has("pretty")
	if !pretty && !rq.api.cfg.AlwaysPretty {
		return json.Marshal(v)
	}
	body, err := json.MarshalIndent(v, "", "    ")
	if pretty && err == nil {
		body = append(body, '\n')
	}
	return body, err
}

// text writes a short answer; an empty one has no type.
func (rq *request) text(status int, body string) {
	ctype := typeText
	if body == "" {
		ctype = ""
	}
	rq.write(status, ctype, []byte(body))
}

func (rq *request) write(status int, ctype string, body []byte) {
	if rq.compresses(body) {
		rq.h.Set("Content-Encoding", "gzip")
		body = rq.api.compress(body)
	}
	rq.send(status, ctype, body)
}

func (rq *request) compresses(body []byte) bool {
	return len(body) >= gzipFrom && acceptsGzip(rq.r.Header)
}

// send writes a body as it is.
func (rq *request) send(status int, ctype string, body []byte) {
	if ctype != "" {
		rq.h.Set("Content-Type", ctype)
	}
	rq.h.Set("Content-Length", strconv.Itoa(len(body)))
	rq.wrote = true
	if len(body) > largeAnswer {
		// A client that stalls would hold the memory. Where the server knows
		// deadlines; it ends this one with the request.
		limit := WriteGrace + time.Duration(len(body)/slowestClient)*time.Second
		_ = http.NewResponseController(rq.w).SetWriteDeadline(time.Now().Add(limit))
	}
	rq.w.WriteHeader(status)
	_, _ = rq.w.Write(body) // fails only where the client is gone
}

func (rq *request) redirect(path string) {
	rq.wrote = true
	to := url.URL{Path: path, RawQuery: rq.r.URL.RawQuery}
	http.Redirect(rq.w, rq.r, to.String(), http.StatusMovedPermanently)
}

func acceptsGzip(h http.Header) bool {
	for _, line := range h.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
				f, err := strconv.ParseFloat(q, 64)
				return !ok || err == nil && f > 0
			}
		}
	}
	return false
}

func (a *API) compress(body []byte) []byte {
	var out bytes.Buffer
	zw, ok := a.gzips.Get().(*gzip.Writer)
	if ok {
		zw.Reset(&out)
	} else {
		zw, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is valid
	}
	_, _ = zw.Write(body) // a bytes.Buffer takes everything
	_ = zw.Close()
	a.gzips.Put(zw)
	return out.Bytes()
}
