package tmpl

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"
)

// Local files that templates read are looked at this often, and may be so large.
const (
	filePoll    = 2 * time.Second
	maxFileSize = 16 << 20
)

// files are the local files that templates read.
type files struct{ known map[string]*localFile }

type localFile struct {
	size    int64
	changed time.Time
	content []byte
	err     error
}

func newFiles() *files { return &files{known: map[string]*localFile{}} }

// read is the file's text, or an error, as it was when it was last looked at.
func (f *files) read(path string) any {
	l := f.known[path]
	if l == nil {
		l = readLocal(path)
		f.known[path] = l
	}
	if l.err != nil {
		return l.err
	}
	return string(l.content)
}

// look reads what has changed on disk and says which paths these were.
func (f *files) look() []string {
	var changed []string
	for path, old := range f.known {
		info, err := os.Stat(path)
		if err == nil && old.err == nil && info.Size() == old.size && info.ModTime().Equal(old.changed) {
			continue
		}
		l := readLocal(path)
		f.known[path] = l
		if !bytes.Equal(l.content, old.content) || fmt.Sprint(l.err) != fmt.Sprint(old.err) {
			changed = append(changed, path)
		}
	}
	return changed
}

// keep forgets the files that no template reads any more.
func (f *files) keep(used map[string]bool) {
	for path := range f.known {
		if !used[path] {
			delete(f.known, path)
		}
	}
}

func readLocal(path string) *localFile {
	file, err := os.Open(path)
	if err != nil {
		return &localFile{err: err}
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return &localFile{err: err}
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(content) > maxFileSize {
		content, err = nil, fmt.Errorf("%s is larger than %d MiB", path, maxFileSize>>20)
	}
	return &localFile{size: info.Size(), changed: info.ModTime(), content: content, err: err}
}
