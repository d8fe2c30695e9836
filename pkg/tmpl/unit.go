package tmpl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/render"
	"github.com/muster-dev/muster/pkg/watch"
)

// unit is one template at work.
type unit struct {
	Template
	text   string
	parsed *funcs.Template
	memo   funcs.Memo

	queries map[watch.Request]bool // what the last pass asked for
	paths   map[string]bool
	missing []string // what it still waits for

	out   *funcs.Output // of a complete pass, not yet written
	last  *funcs.Output // what was written last
	due   time.Time     // when to write it
	since time.Time     // when the first change came that is not written; zero: none
	items int           // how many things the last file showed

	held       bool            // out was rejected or refused too often, and waits for other data
	queued     bool            // its bundle waits for a turn
	broken     bool            // the last pass was complete, but there is nothing to show for it
	undo       []render.Result // what the last commit has replaced
	restored   bool            // and whether it was put back
	retrying   bool            // out was refused by a command before
	wasRetry   bool            // so was what was written last
	forExec    bool            // that command was -exec
	refusals   int             // by the template's own command, in a row
	replacedAt time.Time
	stat       sourceStat // of the template's file

	done      bool // what was rendered stands at the destination, or has
	owes      bool // a file was replaced, and its command has not been told
	gaveUp    bool // Once: it failed
	rejection error
	rejected  fingerprint // what rejection is about
	printed   fingerprint
	spent     spent
	failures  int // to write, in a row
	said      string

	late bool // it came while tmpl ran: what is wrong with it ends nothing
	seen seen // what Status shows of it
}

// read reads and parses the template. It changes nothing if it fails.
func (u *unit) read(spew io.Writer) (changed bool, err error) {
	u.stat = statSource(u.Source)
	data, err := u.source()
	if err != nil {
		return false, cli.Exit(cli.ExitRun, fmt.Errorf("read template: %w", err))
	}
	if u.parsed != nil && string(data) == u.text {
		return false, nil
	}
	parsed, err := funcs.Parse(u.Source, string(data), funcs.Options{
		LeftDelim: u.LeftDelim, RightDelim: u.RightDelim, ErrorOnMissingKey: u.ErrorOnMissingKey,
		Denylist: u.Denylist, SandboxPath: u.SandboxPath,
		Stdout: spew,
	})
	if err != nil {
		return false, cli.Exit(cli.ExitRun, fmt.Errorf("parse template: %w", err))
	}
	u.text, u.parsed = string(data), parsed
	return true, nil
}

// refusedOutput is the output that a command has refused and that is to be tried again;
// nil: there is none.
func (u *unit) refusedOutput() *funcs.Output {
	if !u.retrying {
		return nil
	}
	return u.out
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
