package offline

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/muster-dev/muster/pkg/tmpl"
)

// Explain renders templates by fetch and prints what each asks for.
func Explain(ctx context.Context, templates []tmpl.Template, fetch tmpl.Fetch, out io.Writer) error {
	all, requests, err := tmpl.Render(ctx, templates, fetch)
	if err != nil {
		return err
	}
	for _, r := range all {
		_, _ = fmt.Fprintf(out, "%s: %d look-ups, %d passes\n", arrow(r.Source, r.Destination), len(r.Queries), r.Passes)
		list(out, "GET", r.Queries)
		list(out, "file", r.Local)
		list(out, "waits for", r.Missing)
	}
	_, err = fmt.Fprintf(out, "%d requests in all: look-ups that templates share are made once\n", requests)
	return err
}

// ExplainStatus prints the state of a tmpl that runs.
func ExplainStatus(s tmpl.Status, out io.Writer) error {
	for _, t := range s.Templates {
		_, _ = fmt.Fprintf(out, "%s: %s, replaced %d times\n", arrow(t.Source, t.Destination), t.State, t.Renders)
		if t.LastRender != nil {
			cause := "the template itself, or a local file"
			if len(t.Cause) > 0 {
				cause = strings.Join(t.Cause, ", ")
			}
			_, _ = fmt.Fprintf(out, "  last rendered %s, because of: %s\n", t.LastRender.Format("2006-01-02T15:04:05.000Z07:00"), cause)
		}
		list(out, "follows", t.Queries)
		list(out, "file", t.Files)
		list(out, "waits for", t.Missing)
		if t.LastError != "" {
			_, _ = fmt.Fprintf(out, "  last error: %s\n", t.LastError)
		}
	}
	_, err := fmt.Fprintf(out, "%d look-ups in all, %d without an answer now\n", s.Queries, len(s.Failing))
	return err
}

func list[T any](out io.Writer, label string, values []T) {
	for _, v := range values {
		_, _ = fmt.Fprintf(out, "  %s %v\n", label, v)
	}
}

func arrow(source, destination string) string {
	if destination == "" {
		return source
	}
	return source + " -> " + destination
}
