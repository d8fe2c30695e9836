// Package operator implements the agent's subcommands: it sends a request to one agent
// and prints the answer. It works against a Consul agent as well.
//
// There is one function for each subcommand. It takes a client, where to write,
// and the flags as a small struct; it knows nothing of command lines.
//
// Scripts read the output, so it is the reference's, and so are the texts of
// the errors: they are sentences to be shown as they stand, without a prefix.
// An error carries its exit code where that is not 1 (package cli). Functions
// do not look at the errors of writing: give them a bufio.Writer, whose Flush
// reports the first.
package operator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/muster-dev/muster/pkg/api"
)

// failure is an error whose text is a whole sentence.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// refuse is an error for a request that was not sent.
func refuse(format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...)}
}

// failed is the agent's error with what was tried in front.
func failed(err error, format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...) + ": " + said(err), cause: err}
}

// said is an error in the words of the reference's client.
func said(err error) string {
	var status *api.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("Unexpected response code: %d (%s)", status.Code, status.Text)
	}
	return err.Error()
}

// queryFailed is the usual error of a read.
func queryFailed(err error) error { return failed(err, "Error querying Consul agent") }

// table prints rows in columns that at least two blanks separate. Names come
// from anybody, so what could steer a terminal is not printed.
func table(w io.Writer, rows [][]string) {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, printable(cell))
		}
		fmt.Fprintln(tw)
	}
	_ = tw.Flush() // into memory: cannot fail
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// pairs prints a map as k=v, sorted by key.
func pairs(m map[string]string, separator string) string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, separator)
}
