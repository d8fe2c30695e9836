package tmpl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/watch"
)

// maxPasses bounds how deeply look-ups may depend on look-ups.
const maxPasses = 100

// Fetch gives the body of the API's answer to one request; nil means 404.
type Fetch func(ctx context.Context, q watch.Request) ([]byte, error)

// Rendering is the result of one template.
type Rendering struct {
	Template
	Text    []byte // if Missing is empty
	Files   []funcs.File
	Queries []watch.Request // in the order of their first use
	Local   []string        // files it reads
	Passes  int
	// Missing is what keeps it from being rendered; empty: it is complete.
	Missing []string
}

// Render renders templates once, without a Tool, and writes nothing. Equal requests
// are sent once; requests counts them. Local files are read once.
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

// render executes the template until it asks for nothing new.
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
		fresh, fetchErr := o.fetchMissing(ctx, p, &r)
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

// fetchMissing fetches the answers that a pass lacked, and reports whether there were any.
func (o *offline) fetchMissing(ctx context.Context, p *pass, r *Rendering) (fresh bool, err error) {
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
