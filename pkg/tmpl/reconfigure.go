package tmpl

import (
	"errors"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// overhaul is what can change while a Tool runs.
type overhaul struct {
	templates []Template
	wait      watch.Wait
}

// pending hands an overhaul from whoever reconfigures to the engine.
type pending struct {
	mu   sync.Mutex
	next *overhaul
}

func (p *pending) put(n *overhaul) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = n
}

func (p *pending) take() *overhaul {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.next
	p.next = nil
	return n
}

// Reconfigure replaces the templates and the quiescence of a Tool that runs, and
// reads the templates again, as Reload does. Templates that are as they were are
// left alone: not executed, their commands not run. One that is new and cannot be
// read or parsed is left out, or keeps what it was to replace. It does not wait.
func (t *Tool) Reconfigure(templates []Template, wait watch.Wait) {
	t.next.put(&overhaul{settled(templates), wait.WithDefaults()})
	t.Reload()
}

// settled fills in defaults; it shares nothing that it changes.
func settled(templates []Template) []Template {
	templates = append([]Template(nil), templates...)
	for i := range templates {
		t := &templates[i]
		if t.CommandTimeout == 0 {
			t.CommandTimeout = defaultCommandTimeout
		}
		if t.Wait != nil {
			w := t.Wait.WithDefaults()
			t.Wait = &w
		}
	}
	return templates
}

// reconfigure follows an overhaul, if there is one. New units are executed with those
// that reread finds changed: they have been read, but say that they are troubled.
func (e *engine) reconfigure() {
	p := e.next.take()
	if p == nil {
		return
	}
	e.cfg.Wait, e.cfg.Templates = p.wait, p.templates
	before := e.units
	e.units = nil
	for _, t := range p.templates {
		if u := find(before, func(u *unit) bool { return reflect.DeepEqual(u.Template, t) }); u != nil {
			e.units = append(e.units, u)
			continue
		}
		fresh := &unit{Template: t, late: true}
		fresh.said = "new"
		err := errNoDestination
		if t.Destination != "" || e.cfg.Dry {
			_, err = fresh.read(e.spew())
		}
		if err == nil {
			e.log.Info("template is new or changed", "template", t.Source, "file", t.Destination)
			e.units = append(e.units, fresh)
			continue
		}
		e.log.Error("cannot use the template, keeping the one before", "template", t.Source, "error", err)
		if old := find(before, func(u *unit) bool { return u.Destination == t.Destination && t.Destination != "" }); old != nil {
			e.units = append(e.units, old)
		}
	}
	for _, u := range before {
		if find(e.units, func(is *unit) bool { return is == u }) == nil {
			e.log.Info("template is not followed any more", "template", u.Source, "file", u.Destination)
		}
	}
	e.follow()
}

var errNoDestination = errors.New("it has no destination")

func find(units []*unit, match func(*unit) bool) *unit {
	for _, u := range units {
		if match(u) {
			return u
		}
	}
	return nil
}

// source is the template's text.
func (u *unit) source() ([]byte, error) {
	if u.Contents != "" {
		return []byte(u.Contents), nil
	}
	return os.ReadFile(u.Source)
}

// fatal says whether a failure of the unit ends the tool, which the template
// may have decided.
func (u *unit) fatal(otherwise bool) bool {
	if u.ErrorFatal != nil {
		return *u.ErrorFatal
	}
	return otherwise
}

// waitOf is the quiescence of a unit.
func (e *engine) waitOf(u *unit) watch.Wait {
	if u.Wait != nil {
		return *u.Wait
	}
	return e.cfg.Wait
}

// seen is what Status shows of a unit beside what the engine needs itself.
type seen struct {
	renders    int // that changed something
	renderedAt time.Time
	changedAt  time.Time
	cause      []string // of the last render
	causeNext  []string // of the one to come
	dataAt     time.Time
	err        string
	errAt      time.Time
}
