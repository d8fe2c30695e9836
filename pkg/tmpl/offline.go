package tmpl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/watch"
)

// maxPasses bounds how deep look-ups may depend on look-ups.
const maxPasses = 100

// Fixture is recorded data: a query, as watch.Query writes it ("/v1/kv/a",
// "/v1/health/service/web?passing=1"), and what the API answers; null where it
// answers that there is nothing.
type Fixture map[string]json.RawMessage

// ReadFixture reads a fixture file.
func ReadFixture(path string) (Fixture, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fixture: %w", err)
	}
	f := Fixture{}
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read fixture %s: %w", path, err)
	}
	return f, nil
}

// Encode is the text of a fixture file: the same data give the same bytes.
func (f Fixture) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out) // sorts by key
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(f)
	return out.Bytes(), err
}

// Fetch answers one query, with the body of the API's answer; nil for "there is
// nothing".
type Fetch func(ctx context.Context, q watch.Request) ([]byte, error)

// Fetch answers from the fixture. What it does not hold is an error.
func (f Fixture) Fetch(_ context.Context, q watch.Request) ([]byte, error) {
	body, ok := f[q.String()]
	switch {
	case !ok:
		return nil, fmt.Errorf("the fixture has no %q: add it, or record anew (null says that there is nothing)", q)
	case bytes.Equal(body, []byte("null")):
		return nil, nil
	}
	return body, nil
}

// Record answers by next and keeps what it says.
func (f Fixture) Record(next Fetch) Fetch {
	return func(ctx context.Context, q watch.Request) ([]byte, error) {
		body, err := next(ctx, q)
		switch {
		case err != nil:
		case body == nil:
			f[q.String()] = json.RawMessage("null")
		default:
			f[q.String()] = bytes.TrimSpace(body)
		}
		return body, err
	}
}

// Live answers by one request each, not blocking.
func Live(c watch.Getter) Fetch {
	return func(ctx context.Context, q watch.Request) ([]byte, error) {
		params, err := url.ParseQuery(q.Params)
		if err != nil {
			return nil, err
		}
		var body []byte
		_, err = c.Get(ctx, q.Path, &client.Options{Params: params}, &body)
		if strings.HasPrefix(q.Path, "/v1/kv/") && client.IsStatus(err, http.StatusNotFound) {
			return nil, nil
		}
		return body, err
	}
}

// Rendering is what one template amounts to.
type Rendering struct {
	Template
	Text    []byte // of a complete rendering
	Files   []funcs.File
	Queries []watch.Request // in the order in which they were first asked
	Local   []string        // files it reads
	Passes  int
	// Missing is what it asks for and is not there, in a way that keeps it from
	// being rendered ever; empty: it is complete.
	Missing []string
}

// Render renders templates once, outside of any Tool, and writes nothing. Equal
// queries are asked once; requests counts them. Local files are read as they are.
func Render(ctx context.Context, templates []Template, fetch Fetch) (out []Rendering, requests int, err error) {
	o := &offline{fetch: fetch, data: map[watch.Request]watch.Result{}, files: newFiles()}
	for _, t := range templates {
		r, err := o.render(ctx, t)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, r)
	}
	return out, len(o.data), nil
}

type offline struct {
	fetch Fetch
	data  map[watch.Request]watch.Result
	files *files
}

// render executes until nothing new is asked for.
func (o *offline) render(ctx context.Context, t Template) (Rendering, error) {
	u := &unit{Template: t}
	if _, err := u.read(os.Stderr); err != nil {
		return Rendering{}, err
	}
	r := Rendering{Template: t}
	for r.Passes < maxPasses {
		p := newPass(o.data, o.files)
		result, err := u.parsed.Execute(ctx, p)
		r.Passes++
		fresh, fetchErr := o.ask(ctx, p, &r)
		switch {
		case fetchErr != nil:
			return r, fmt.Errorf("render %s: %w", t.Source, fetchErr)
		case fresh && !errors.Is(err, funcs.ErrUnsupported):
			continue
		case err != nil:
			return r, fmt.Errorf("execute template: %w", err)
		}
		for path := range p.paths {
			r.Local = append(r.Local, path)
		}
		slices.Sort(r.Local)
		r.Missing = p.missing
		if result.Complete {
			r.Text, r.Files = result.Text, result.Files
		}
		return r, nil
	}
	return r, fmt.Errorf("render %s: it asks for something else after %d passes", t.Source, maxPasses)
}

// ask gets the answers that a pass lacked and says whether there were any.
func (o *offline) ask(ctx context.Context, p *pass, r *Rendering) (fresh bool, err error) {
	wanted := make([]watch.Request, 0, len(p.queries))
	for q := range p.queries {
		wanted = append(wanted, q)
	}
	slices.SortFunc(wanted, func(a, b watch.Request) int { return strings.Compare(a.String(), b.String()) })
	for _, q := range wanted {
		if !slices.Contains(r.Queries, q) {
			r.Queries = append(r.Queries, q)
		}
		if _, known := o.data[q]; known {
			continue
		}
		body, err := o.fetch(ctx, q)
		if err != nil {
			return false, err
		}
		value, err := watch.Decode(q, body)
		if err != nil {
			return false, err
		}
		o.data[q] = watch.Result{Value: value, Empty: body == nil}
		fresh = true
	}
	return fresh, nil
}
