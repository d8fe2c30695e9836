package tmpl

import (
	"errors"
	"os"
	"reflect"

	"github.com/muster-dev/muster/pkg/watch"
)

// reconfiguration is what can change while a Tool runs.
type reconfiguration struct {
	templates []Template
	wait      watch.Wait
}

// Reconfigure replaces the templates and the quiescence of a Tool that runs, and
// reads the templates again, as Reload does. Templates that are as they were are
// left alone: not executed, their commands not run. One that is new and cannot be
// read or parsed is left out, or keeps what it was to replace. It does not wait.
func (t *Tool) Reconfigure(templates []Template, wait watch.Wait) {
	t.next.Store(&reconfiguration{withDefaults(templates), wait.WithDefaults()})
	t.Reload()
}

// withDefaults fills in defaults, in a copy.
func withDefaults(templates []Template) []Template {
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

// reconfigure follows a reconfiguration, if there is one. reread executes the new units,
// because their state is stateNew.
func (e *engine) reconfigure() {
	if e.next == nil {
		return
	}
	p := e.next.Swap(nil)
	if p == nil {
		return
	}
	e.cfg.Wait, e.cfg.Templates = p.wait, p.templates
	before := e.units
	var units []*unit
	for _, t := range p.templates {
		if u := find(before, func(u *unit) bool { return reflect.DeepEqual(u.Template, t) }); u != nil {
			units = append(units, u)
			continue
		}
		fresh := &unit{Template: t, late: true}
		err := errNoDestination
		if t.Destination != "" || e.cfg.Dry {
			_, err = fresh.read(e.spew())
		}
		if err == nil {
			e.log.Info("template is new or changed", "template", t.Source, "file", t.Destination)
			units = append(units, fresh)
			continue
		}
		e.log.Error("cannot use the template, keeping the one before", "template", t.Source, "error", err)
		if old := find(before, func(u *unit) bool { return u.Destination == t.Destination && t.Destination != "" }); old != nil {
			units = append(units, old)
		}
	}
	for _, u := range before {
		if find(units, func(is *unit) bool { return is == u }) == nil {
			e.log.Info("template is not followed any more", "template", u.Source, "file", u.Destination)
		}
	}
	e.mu.Lock()
	e.units = units
	e.mu.Unlock()
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
