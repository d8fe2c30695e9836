package view

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// A Form is a way to encode an answer.
type Form int

// Forms that are kept.
const (
	Body  Form = iota // as an HTTP answer carries it
	Gzip              // the same, compressed
	Frame             // as a subscription's frame carries it
	forms
)

// Encoded is an answer in one form. Nobody changes its bytes.
type Encoded struct {
	Head, Body []byte
	Hash       string
	Borrowed   bool // Body is that of another form: it is counted there
}

// Encoding keeps the forms of one answer, each made by the first who needs it.
// Who is not lucky finds it dropped and makes it again: what all keep together
// is bounded by MaxSharedBytes.
type Encoding struct {
	board  *Board
	view   *shared
	making [forms]sync.Mutex
	made   [forms]atomic.Pointer[Encoded]

	size  int           // of what is kept; this and place are guarded by Board.mu
	place *list.Element // in views.forms
}

// Make gives a form of the answer, made by f unless it is kept. Others who want
// it wait. A nil Encoding keeps nothing.
func (e *Encoding) Make(form Form, f func() (Encoded, error)) (*Encoded, error) {
	if e == nil {
		out, err := f()
		return &out, err
	}
	if kept := e.made[form].Load(); kept != nil {
		return kept, nil
	}
	e.making[form].Lock()
	defer e.making[form].Unlock()
	if kept := e.made[form].Load(); kept != nil {
		return kept, nil
	}
	out, err := f()
	if err != nil {
		return nil, err
	}
	e.keep(form, &out)
	return &out, nil
}

// keep keeps a form, while the answer is its view's and the view is kept.
func (e *Encoding) keep(form Form, out *Encoded) {
	b := e.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.view.ans.Encoding != e || !e.view.listed {
		return
	}
	n := len(out.Head) + len(out.Hash)
	if !out.Borrowed {
		n += len(out.Body)
	}
	e.made[form].Store(out)
	e.size += n
	b.views.bytes += n
	if e.place == nil {
		e.place = b.views.forms.PushFront(e)
	}
	for b.views.bytes > MaxSharedBytes && b.views.forms.Len() > 1 {
		b.views.drop(b.views.forms.Back().Value.(*Encoding))
	}
}

// drop forgets the forms of an answer.
func (vs *views) drop(e *Encoding) {
	if e == nil || e.place == nil {
		return
	}
	for i := range e.made {
		e.made[i].Store(nil)
	}
	vs.forms.Remove(e.place)
	vs.bytes -= e.size
	e.place, e.size = nil, 0
}
