package funcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"text/template"
)

// ErrUnsupported is the error of functions that consul-template has and muster
// does not: Vault, Nomad and the service mesh. It does not depend on data: report
// it even where the pass is incomplete.
var ErrUnsupported = errors.New("not supported by muster")

// MaxOutput bounds what one pass may write, in bytes.
const MaxOutput = 64 << 20

// maxNesting bounds templates that execute themselves by executeTemplate.
const maxNesting = 200

// Options are what a template block of the configuration says about the
// language.
type Options struct {
	LeftDelim, RightDelim string    // "" is {{ and }}
	ErrorOnMissingKey     bool      // a missing map key fails instead of giving the zero value of the map's type
	Denylist              []string  // patterns (path.Match) of functions that fail when called
	SandboxPath           string    // file arguments must lie below, "": no limit
	Env                   []string  // KEY=value, read by env before the process's own
	Stdout                io.Writer // of spew_dump and spew_printf, nil: discarded
}

// Template is a parsed template. It is immutable and safe for concurrent use.
type Template struct {
	name      string
	opts      Options
	missing   string // option of text/template
	parsed    *template.Template
	fragments []*fragment
	denied    template.FuncMap
}

// Parse parses a template. Errors begin with name and the line: name should be the path
// of the source file.
func Parse(name, text string, o Options) (*Template, error) {
	t, all, err := parseWhole(name, text, o)
	if err != nil {
		return nil, err
	}
	if err := (&splitter{t: t, all: all}).split(t.parsed.Root, nil); err != nil {
		return nil, err
	}
	return t, nil
}

// parseWhole parses a template, without fragments. It also returns the functions.
func parseWhole(name, text string, o Options) (*Template, template.FuncMap, error) {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	t := &Template{name: name, opts: o}
	all := helpers()
	maps.Copy(all, newPass(context.Background(), nil, o).table())
	denied, err := deny(all, o.Denylist)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	maps.Copy(all, denied)
	t.denied = denied

	// A map that has a type gives the zero value of that type for what it lacks: "" of
	// a service's meta, which parseInt and the like can take. Of map[string]any that
	// is nil, which prints as <no value>.
	t.missing = "missingkey=zero"
	if o.ErrorOnMissingKey {
		t.missing = "missingkey=error"
	}
	t.parsed, err = template.New(name).Delims(o.LeftDelim, o.RightDelim).Option(t.missing).Funcs(all).Parse(text)
	if err != nil {
		return nil, nil, plain(err)
	}
	maps.Copy(all, unbound())
	t.parsed.Funcs(all)
	return t, all, nil
}

// Output is the result of one pass.
type Output struct {
	// Text is meaningful only if Complete.
	Text []byte
	// Complete: every look-up had an answer and none was blocked.
	Complete bool
	// Files are those that writeToFile asked for, in order. Nothing has been
	// written: the caller does, when it commits Text.
	Files []File
}

// Execute runs one pass; ctx ends plugins. The Output is never nil. An error of an
// incomplete pass often comes from the data that is missing (index of an empty
// list): hold it back until a pass is complete, unless it is ErrUnsupported.
func (t *Template) Execute(ctx context.Context, src Source) (*Output, error) {
	return t.ExecuteWith(ctx, src, &Memo{})
}

// ExecuteWith is Execute with the memo of the passes before.
func (t *Template) ExecuteWith(ctx context.Context, src Source, memo *Memo) (*Output, error) {
	p := newPass(ctx, src, t.opts)
	p.memo = memo
	memo.begin()
	defer memo.end()
	bound := p.table()
	maps.Copy(bound, t.denied)
	maps.Copy(bound, p.fragmentTable(t.fragments, bound))
	run, err := t.parsed.Clone()
	if err != nil {
		return &Output{}, fmt.Errorf("%s: %w", t.name, err)
	}
	p.set = run.Funcs(bound)
	buf := &limitedBuffer{}
	err = p.set.Execute(buf, nil)
	out := &Output{Text: buf.Bytes(), Complete: p.complete, Files: p.files}
	if inner := new(fragmentError); errors.As(err, &inner) {
		err = inner.err
	}
	if err != nil {
		return out, plain(err)
	}
	return out, nil
}

// deny makes a failing function for every function that a pattern matches.
func deny(all template.FuncMap, patterns []string) (template.FuncMap, error) {
	denied := template.FuncMap{}
	for _, pattern := range patterns {
		for name := range all {
			hit, err := path.Match(pattern, name)
			if err != nil {
				return nil, fmt.Errorf("function denylist: bad pattern %q: %w", pattern, err)
			}
			if hit {
				denied[name] = func(...any) (string, error) { return "", errors.New("function is disabled") }
			}
		}
	}
	return denied, nil
}

// plain removes the prefix "template: " of text/template's errors, so that they begin
// with the file.
func plain(err error) error {
	if text, cut := strings.CutPrefix(err.Error(), "template: "); cut {
		return &templateError{text: text, err: err}
	}
	return err
}

type templateError struct {
	text string
	err  error
}

func (e *templateError) Error() string { return e.text }
func (e *templateError) Unwrap() error { return e.err }

// limitedBuffer is a buffer that refuses to grow past MaxOutput.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxOutput {
		return 0, fmt.Errorf("template writes more than %d MiB", MaxOutput>>20)
	}
	return b.Buffer.Write(p)
}
