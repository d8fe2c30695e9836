// Package offline renders templates once and reports about them, without keeping any
// file up to date: from live data, or from a fixture without an agent. The subcommands
// test, record, diff and explain of tmpl are its functions.
//
// What it promises: it writes only golden files, and those only if told to; each
// request is sent once, however many templates need it.
package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/muster-dev/muster/pkg/tmpl"
)

// ErrDiffers says that some text differs from its file. The diff has been printed.
var ErrDiffers = errors.New("there are differences")

// Test renders templates from a fixture and compares each with its golden file, the
// template's destination: it prints a diff to out and returns ErrDiffers. With update it
// writes the golden files instead. The text of a template without one goes to out.
func Test(ctx context.Context, templates []tmpl.Template, f Fixture, update bool, out io.Writer) error {
	all, _, err := tmpl.Render(ctx, templates, f.Fetch)
	if err == nil {
		err = complete(all)
	}
	if err != nil {
		return err
	}
	c := comparison{out: out}
	for _, r := range all {
		switch {
		case r.Destination == "":
			_, err = out.Write(r.Text)
		case update:
			err = os.WriteFile(r.Destination, r.Text, 0o644)
		default:
			err = c.compare(r.Destination, "rendered "+r.Source, r.Text)
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// Record renders templates by fetch and returns the answers as the text of a fixture.
// warnings name the templates that cannot be rendered from it.
func Record(ctx context.Context, templates []tmpl.Template, fetch tmpl.Fetch) (fixture []byte, warnings []string, err error) {
	f := Fixture{}
	all, _, err := tmpl.Render(ctx, templates, f.record(fetch))
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		if len(r.Missing) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s cannot be rendered from this: it waits for %s", r.Source, strings.Join(r.Missing, ", ")))
		}
	}
	fixture, err = f.Encode()
	return fixture, warnings, err
}

// Diff renders templates by fetch and prints how their files, and those of writeToFile,
// would change. It returns ErrDiffers if any would. Every template has a destination.
func Diff(ctx context.Context, templates []tmpl.Template, fetch tmpl.Fetch, out io.Writer) error {
	all, _, err := tmpl.Render(ctx, templates, fetch)
	if err != nil {
		return err
	}
	c := comparison{out: out}
	for _, r := range all {
		if len(r.Missing) > 0 {
			continue // its file would stay
		}
		if err := c.compare(r.Destination, "rendered "+r.Source, r.Text); err != nil {
			return err
		}
		for _, f := range r.Files {
			if f.Append {
				continue
			}
			if err := c.compare(f.Path, "written by "+r.Source, f.Content); err != nil {
				return err
			}
		}
	}
	if err := complete(all); err != nil {
		return err
	}
	return c.result()
}

// complete is an error that lists the templates which cannot be rendered.
func complete(all []tmpl.Rendering) error {
	var errs []error
	for _, r := range all {
		if len(r.Missing) > 0 {
			errs = append(errs, fmt.Errorf("render %s: it waits for %s", r.Source, strings.Join(r.Missing, ", ")))
		}
	}
	return errors.Join(errs...)
}

// comparison prints diffs and remembers whether there was one.
type comparison struct {
	out     io.Writer
	differs bool
}

// compare prints how text differs from the content of a file.
func (c *comparison) compare(path, name string, text []byte) error {
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		path += " (not there)"
	case err != nil:
		return err
	case string(have) == string(text):
		return nil
	}
	c.differs = true
	_, err = c.out.Write(diff.Diff(path, have, name, text))
	return err
}

func (c *comparison) result() error {
	if c.differs {
		return ErrDiffers
	}
	return nil
}
