package tmpl

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/render"
)

// piece is one file that the output of a template amounts to.
type piece struct {
	render.File
	main bool // the template's own destination
	// once says that the content cannot be compared with what is there, because it is
	// added to a file or goes down a stream: it is written once for each output.
	once   bool
	append bool
}

// pieces are all files of an output. What the template writes beside its text comes
// first: the text may name it. Several writes to one path are one piece; those that
// begin the file anew take away what was before, as if they were done one by one. What
// the template writes to its own destination has no effect, because the text follows.
func (u *unit) pieces(out *funcs.Output) []piece {
	main := piece{main: true, File: render.File{
		Path: u.Destination, Content: out.Text, Mode: u.Perms, User: u.User, Group: u.Group, Backup: u.Backup, NoDirs: u.NoDirs,
	}}
	main.once = render.IsStream(u.Destination)
	if len(out.Files) == 0 {
		return []piece{main}
	}
	var all []piece
	at := map[string]int{absolute(u.Destination): -1}
	for _, f := range out.Files {
		path := absolute(f.Path)
		i, again := at[path]
		switch {
		case i < 0:
		case !again:
			at[path] = len(all)
			p := piece{append: f.Append, File: render.File{Path: f.Path, Content: f.Content, Mode: f.Mode, User: f.User, Group: f.Group}}
			p.once = f.Append || render.IsStream(f.Path)
			all = append(all, p)
		case f.Append:
			all[i].Content = append(bytes.Clone(all[i].Content), f.Content...)
		default:
			all[i].File = render.File{Path: f.Path, Content: f.Content, Mode: f.Mode, User: f.User, Group: f.Group}
			all[i].append, all[i].once = false, render.IsStream(f.Path)
		}
	}
	return append(all, main)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// fingerprint names an output: its text and what it writes beside.
type fingerprint [sha256.Size]byte

func fingerprintOf(out *funcs.Output) fingerprint {
	sum := sha256.New()
	addOutput(sum, out)
	return fingerprint(sum.Sum(nil))
}

func addOutput(sum hash.Hash, out *funcs.Output) {
	part := func(w io.Writer, b []byte) {
		fmt.Fprintf(w, "%d\n", len(b))
		_, _ = w.Write(b)
	}
	part(sum, out.Text)
	for _, f := range out.Files {
		part(sum, []byte(f.Path))
		part(sum, fmt.Appendf(nil, "%s %s %o %v", f.User, f.Group, f.Mode, f.Append))
		part(sum, f.Content)
	}
}

// spent is what of an output was written that is written only once: who has to write
// the rest again, or runs a command again, does not repeat it.
type spent struct {
	of   fingerprint
	done map[string]bool // by path
}

// spentOn says whether a piece of an output needs no writing any more. Before the first
// render of this process an earlier one may have added what there is to add.
func (u *unit) spentOn(of fingerprint, p piece) bool {
	if u.spent.of == of && u.spent.done[p.Path] {
		return true
	}
	return !u.done && p.append && render.EndsWith(p.Path, p.Content)
}

func (u *unit) spend(of fingerprint, p piece) {
	if u.spent.of != of || u.spent.done == nil {
		u.spent = spent{of: of, done: map[string]bool{}}
	}
	u.spent.done[p.Path] = true
}

// wouldWrite says whether a piece differs from what is there.
func (u *unit) wouldWrite(of fingerprint, p piece) bool {
	if p.once {
		return !u.spentOn(of, p)
	}
	data, err := os.ReadFile(p.Path)
	return err != nil || !bytes.Equal(data, p.Content)
}
