package tmpl

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/watch"
)

// unit is one template at work.
type unit struct {
	Template
	text   string
	parsed *funcs.Template

	queries map[watch.Query]bool // what the last pass asked for
	paths   map[string]bool
	missing []string // what it still waits for

	out      *funcs.Output // of a complete pass, not yet written
	due      time.Time     // when to write it
	deadline time.Time     // how long changes may put due off

	done      bool // what was rendered stands at the destination, or has
	owes      bool // a file was replaced, and its command has not been told
	gaveUp    bool // Once: it failed
	rejection error
	rejected  [sha256.Size]byte // what rejection is about
	printed   [sha256.Size]byte
	failures  int // to write, in a row
	said      string
}

// read reads and parses the template. It changes nothing if it fails.
func (u *unit) read(spew io.Writer) (changed bool, err error) {
	data, err := os.ReadFile(u.Source)
	if err != nil {
		return false, cli.Exit(cli.ExitRun, fmt.Errorf("read template: %w", err))
	}
	if u.parsed != nil && string(data) == u.text {
		return false, nil
	}
	parsed, err := funcs.Parse(u.Source, string(data), funcs.Options{
		LeftDelim: u.LeftDelim, RightDelim: u.RightDelim, ErrorOnMissingKey: u.ErrorOnMissingKey,
		Stdout: spew,
	})
	if err != nil {
		return false, cli.Exit(cli.ExitRun, fmt.Errorf("parse template: %w", err))
	}
	u.text, u.parsed = string(data), parsed
	return true, nil
}

// schedule says when the output of a pass is written.
func (u *unit) schedule(w Wait, now time.Time) {
	if w.Min <= 0 {
		u.due = now
		return
	}
	if u.deadline.IsZero() {
		u.deadline = now.Add(w.Max)
	}
	u.due = now.Add(w.Min)
	if u.due.After(u.deadline) {
		u.due = u.deadline
	}
}

// news says whether text is worth saying: once until something else happens.
func (u *unit) news(text string) bool {
	if u.said == text {
		return false
	}
	u.said = text
	return true
}

// waitsFor lists what keeps the unit from being rendered, for a person to read.
func (u *unit) waitsFor() string {
	const most = 5
	if len(u.missing) <= most {
		return strings.Join(u.missing, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(u.missing[:most], ", "), len(u.missing)-most)
}
