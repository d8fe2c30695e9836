package tmpl

import "github.com/muster-dev/muster/pkg/render"

// maxJournal is how many versions of one file wait for the -exec command's
// outcome. Past it the oldest stays, to which files are restored, and the one
// after it goes.
const maxJournal = 8

// journal is what was replaced since the -exec command has last accepted the
// files. Its versions are numbered: endVersion ends one.
type journal struct {
	seq     int
	entries map[string][]journalEntry // by path, oldest first
	order   []string
}

type journalEntry struct {
	seq  int
	unit *unit
	res  render.Result
}

func newJournal() *journal { return &journal{entries: map[string][]journalEntry{}} }

// endVersion ends a version and gives its number.
func (j *journal) endVersion() int {
	j.seq++
	return j.seq
}

func (j *journal) add(u *unit, res render.Result) {
	list := j.entries[res.Path]
	if list == nil {
		j.order = append(j.order, res.Path)
	}
	list = append(list, journalEntry{j.seq + 1, u, res})
	if len(list) > maxJournal {
		list = append(list[:1], list[2:]...)
	}
	j.entries[res.Path] = list
}

// accept forgets what came before and with a version.
func (j *journal) accept(seq int) {
	for path, list := range j.entries {
		for len(list) > 0 && list[0].seq <= seq {
			list = list[1:]
		}
		j.set(path, list)
	}
}

// drop forgets replacements of a unit that were undone.
func (j *journal) drop(u *unit, undone []render.Result) {
	for _, res := range undone {
		list := j.entries[res.Path]
		if n := len(list); n > 0 && list[n-1].unit == u {
			j.set(res.Path, list[:n-1])
		}
	}
}

// takeOldest empties the journal: for each file the oldest version, to which it
// is to be restored.
func (j *journal) takeOldest() []journalEntry {
	var out []journalEntry
	for _, path := range j.order {
		if list := j.entries[path]; len(list) > 0 {
			out = append(out, list[0])
		}
	}
	j.entries, j.order = map[string][]journalEntry{}, nil
	return out
}

func (j *journal) set(path string, list []journalEntry) {
	if len(list) > 0 {
		j.entries[path] = list
		return
	}
	delete(j.entries, path)
	for i, p := range j.order {
		if p == path {
			j.order = append(j.order[:i], j.order[i+1:]...)
			return
		}
	}
}
