package view

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// A Form is an encoding of an answer.
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
	Borrowed   bool // Body belongs to another form, where its size is counted
}

// Encoding keeps the forms of one answer, each made at its first use. The forms of
// all answers take at most MaxSharedBytes: those least recently used are dropped,
// and made again when needed.
type Encoding struct {
	views  *Views
	view   *shared
	making [forms]sync.Mutex
	made   [forms]atomic.Pointer[Encoded]

	size  int           // bytes of the kept forms; this and place are guarded by Views.mu
	place *list.Element // in cache.forms
}

// Make returns a form of the answer. It calls f unless the form is kept; concurrent
// callers wait for that one call. A nil Encoding keeps nothing.
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

// keep stores a form, if the answer is still its view's and the view is kept.
func (e *Encoding) keep(form Form, out *Encoded) {
	vs := e.views
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if e.view.ans.Encoding != e || !e.view.indexed {
		return
	}
	n := len(out.Head) + len(out.Hash)
	if !out.Borrowed {
		n += len(out.Body)
	}
	e.made[form].Store(out)
	e.size += n
	vs.cache.bytes += n
	if e.place == nil {
		e.place = vs.cache.forms.PushFront(e)
	}
	for vs.cache.bytes > MaxSharedBytes && vs.cache.forms.Len() > 1 {
		vs.cache.drop(vs.cache.forms.Back().Value.(*Encoding))
	}
}

// drop removes the forms of an answer.
func (c *cache) drop(e *Encoding) {
	if e == nil || e.place == nil {
		return
	}
	for i := range e.made {
		e.made[i].Store(nil)
	}
	c.forms.Remove(e.place)
	c.bytes -= e.size
	e.place, e.size = nil, 0
}
