package tmpl

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/pkg/render"
)

func replaced(path, before string) render.Result {
	return render.Result{Path: path, Changed: true, Previous: render.Previous{Existed: true, Content: []byte(before)}}
}

// oldest is what the journal would restore.
func oldest(j *journal) string {
	text := ""
	for _, entry := range j.takeOldest() {
		text += entry.res.Path + "=" + string(entry.res.Previous.Content) + " "
	}
	return text
}

func TestJournalRestoresWhatWasAcceptedLast(t *testing.T) {
	u := &unit{}
	fill := func() *journal {
		j := newJournal()
		j.add(u, replaced("a", "0"))
		j.add(u, replaced("b", "0"))
		j.endVersion() // 1
		j.add(u, replaced("a", "1"))
		j.endVersion() // 2
		return j
	}
	if got := oldest(fill()); got != "a=0 b=0 " {
		t.Errorf("nothing accepted: %s", got)
	}
	j := fill()
	j.accept(1)
	if got := oldest(j); got != "a=1 " {
		t.Errorf("1 accepted: %s", got)
	}
	j = fill()
	j.accept(2)
	if got := oldest(j); got != "" {
		t.Errorf("2 accepted: %s", got)
	}
	j = fill()
	j.drop(u, []render.Result{replaced("a", "1"), replaced("b", "0")})
	if got := oldest(j); got != "a=0 " {
		t.Errorf("after a drop: %s", got)
	}
	j = newJournal()
	for i := range 100 {
		j.add(u, replaced("a", fmt.Sprint(i)))
		j.endVersion()
	}
	if n := len(j.entries["a"]); n != maxJournal {
		t.Errorf("%d versions", n)
	}
	if got := oldest(j); got != "a=0 " {
		t.Errorf("after many: %s", got)
	}
}
