package httpapi

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/muster-dev/muster/pkg/agent/view"
)

// frame is an api.Frame whose results are encoded already, by whoever first
// needed them.
type frame struct {
	index   uint64
	results []result
}

// result is an api.SubscribedResult: its form holds all but ID and Index.
type result struct {
	id    string
	index uint64
	form  *view.Encoded
}

// form is what a frame says of what the handler made of an answer. The body is
// that of an HTTP answer where that has the same bytes.
func (rq *request) form(v any, enc *view.Encoding) (view.Encoded, error) {
	status, own := http.StatusOK, rq.api.cfg.AlwaysPretty || rq.has("pretty")
	if r, ok := v.(reply); ok {
		status, v, own = r.status, r.value, true
	}
	encode := func() (view.Encoded, error) {
		b, err := json.Marshal(v)
		return view.Encoded{Body: b}, err
	}
	if own {
		out, err := encode()
		return newForm(status, "", out.Body, false), err
	}
	shared, err := enc.Make(view.Body, encode)
	if err != nil {
		return view.Encoded{}, err
	}
	return newForm(status, "", shared.Body, true), nil
}

func failedForm(err error) view.Encoded {
	code, text := statusOf(err)
	return newForm(code, text, nil, false)
}

// newForm encodes the fields from Status to Body or Error. The hash is of what
// the result says: it is the same on every server.
func newForm(status int, failure string, body []byte, borrowed bool) view.Encoded {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s\n", status, failure)
	sum.Write(body)
	out := view.Encoded{Hash: hex.EncodeToString(sum.Sum(nil)[:16]), Body: body, Borrowed: borrowed}
	head := fmt.Appendf(nil, `"Status":%d,"Hash":"%s"`, status, out.Hash)
	if body != nil {
		head = append(head, `,"Body":`...)
	}
	if failure != "" {
		text, _ := json.Marshal(failure) // a string can be encoded
		head = append(append(head, `,"Error":`...), text...)
	}
	out.Head = head
	return out
}

// lines writes one JSON value per line, and flushes each.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (l *lines) send(v any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(v); err != nil {
		return err
	}
	l.allow(buf.Len())
	if _, err := l.w.Write(buf.Bytes()); err != nil {
		return err
	}
	return l.control.Flush()
}

// allow sets the deadline by which the client must have read so many bytes.
func (l *lines) allow(n int) {
	limit := WriteGrace + time.Duration(n/slowestClient)*time.Second
	_ = l.control.SetWriteDeadline(time.Now().Add(limit))
}

// frame writes a frame from the bytes that all streams share. encoding/json would
// check and copy each body once for every stream.
func (l *lines) frame(f *frame) error {
	n := 64
	for _, r := range f.results {
		n += len(r.id) + len(r.form.Head) + len(r.form.Body) + 64
	}
	l.allow(n)
	out := bufio.NewWriterSize(l.w, min(n, 8<<10))
	f.write(out)
	if err := out.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}

// write puts the frame out as encoding/json writes an api.Frame. An error stays
// with the writer.
func (f *frame) write(out *bufio.Writer) {
	var scratch []byte
	scratch = append(scratch, '{')
	if f.index > 0 {
		scratch = strconv.AppendUint(append(scratch, `"Index":`...), f.index, 10)
	}
	for i, r := range f.results {
		if i > 0 || f.index > 0 {
			scratch = append(scratch, ',')
		}
		if i == 0 {
			scratch = append(scratch, `"Results":[`...)
		}
		id, _ := json.Marshal(r.id) // a string can be encoded
		scratch = append(append(scratch, `{"ID":`...), id...)
		scratch = strconv.AppendUint(append(scratch, `,"Index":`...), r.index, 10)
		scratch = append(append(scratch, ','), r.form.Head...)
		_, _ = out.Write(scratch)
		_, _ = out.Write(r.form.Body)
		scratch = append(scratch[:0], '}')
	}
	if len(f.results) > 0 {
		scratch = append(scratch, ']')
	}
	_, _ = out.Write(append(scratch, '}', '\n'))
}
