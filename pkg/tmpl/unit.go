package tmpl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/render"
)

// unit is one template at work.
type unit struct {
	Template
	text   string
	parsed *funcs.Template
	memo   funcs.Memo
	progress

	out   *funcs.Output // of a complete pass, not yet written
	last  *funcs.Output // what was written last
	due   time.Time     // when to write it
	since time.Time     // when the first change came that is not written; zero: none
	items int           // how many things the last file showed

	pass       passResult
	done       bool            // what was rendered is at the destination, or was
	queued     bool            // its bundle waits for a slot
	undo       []render.Result // what the last commit has replaced
	restored   bool            // and whether it was put back
	refusedBy  refuser         // out was written before
	wasRetry   bool            // so was what was written last
	refusals   int             // by the template's own command, in a row
	replacedAt time.Time
	stat       sourceStat // of the template's file

	commandPending bool // a file was replaced, and its command has not run
	rejection      error
	rejected       fingerprint // what rejection is about
	printed        fingerprint
	spent          spent
	failures       int    // to write, in a row
	lastMessage    string // in the log, which is not repeated

	late bool // it came while tmpl ran: its errors do not end the tool
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
	if u.refusedBy == nobody {
		return nil
	}
	return u.out
}

// news says whether text is to be logged: once until something else happens.
func (u *unit) news(text string) bool {
	if u.lastMessage == text {
		return false
	}
	u.lastMessage = text
	return true
}

// waitsFor lists what keeps the unit from being rendered, for a person to read.
func (u *unit) waitsFor() string {
	const limit = 5
	if len(u.missing) <= limit {
		return strings.Join(u.missing, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(u.missing[:limit], ", "), len(u.missing)-limit)
}
