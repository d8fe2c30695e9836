package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// defaultWidth is the width of output that is no terminal.
const defaultWidth = 80

// terminal is the file that w is, if that is a terminal.
func terminal(w io.Writer) (fd int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || f == nil {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// Width is how many characters fit in a line of w: the terminal's width, else 80.
func Width(w io.Writer) int {
	if fd, ok := terminal(w); ok {
		if width, _, err := term.GetSize(fd); err == nil && width > 0 {
			return width
		}
	}
	return defaultWidth
}

// Colours reports whether to write colours to w: it is a terminal that has them, and
// NO_COLOR (https://no-color.org) is not set.
func Colours(w io.Writer) bool {
	return Terminal(w) && os.Getenv("NO_COLOR") == ""
}

// Terminal reports whether w is a terminal that understands control sequences.
func Terminal(w io.Writer) bool {
	_, ok := terminal(w)
	return ok && os.Getenv("TERM") != "dumb"
}

// Bold is text in bold type where w has colours.
func Bold(w io.Writer, text string) string { return styled(w, "1", text) }

func styled(w io.Writer, style, text string) string {
	if !Colours(w) {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
