// Package operator implements the agent's subcommands: it sends a request to one agent
// and prints the answer. It works against a Consul agent as well.
//
// There is one function for each subcommand. It takes a client, where to write,
// and the flags as a small struct; it knows nothing of command lines.
//
// Scripts read the output, so it is the reference's, and so are the texts of the errors:
// they are whole sentences, to be printed without a prefix. An error has an exit code if
// that is not 1 (package cli). Functions ignore the errors of writing: give them a
// bufio.Writer, whose Flush reports the first one.
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

// refused is the error of a command that is refused before or without an error of the
// agent.
func refused(format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...)}
}

// failed is an error of a request; format says what was tried.
func failed(err error, format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...) + ": " + errorText(err), cause: err}
}

// errorText is the text of an error as the reference's client has it.
func errorText(err error) string {
	var status *api.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("Unexpected response code: %d (%s)", status.Code, status.Text)
	}
	return err.Error()
}

// queryFailed is the usual error of a read.
func queryFailed(err error) error { return failed(err, "Error querying Consul agent") }

// table prints rows in columns that at least two blanks separate. Anybody can choose a
// name, so control characters are replaced.
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
