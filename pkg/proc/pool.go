package proc

import (
	"errors"
	"os"
	"sync"
)

// Pool keeps guards ready for children that come and go: to start one takes no more
// than a fork where a guard is idle. An idle guard costs about 1 MB. Max is how many
// are kept. Close is owed.
type Pool struct {
	Max int

	mu     sync.Mutex
	idle   []*Guard
	closed bool
}

// Warm starts a guard unless one is idle; it does not wait until it is ready. That it
// cannot be started is for the next Start to tell.
func (p *Pool) Warm() {
	p.mu.Lock()
	enough := len(p.idle) > 0 || p.closed
	p.mu.Unlock()
	if enough {
		return
	}
	if g, err := NewGuard(nil); err == nil {
		p.put(g)
	}
}

// Start starts a child below an idle guard, or else below a new one, that is kept when
// the child has ended. A child with a Credential has a guard of its own.
func (p *Pool) Start(spec Spec) (*Child, error) {
	if spec.Credential != nil {
		return Start(spec)
	}
	for {
		g := p.get()
		if g == nil {
			break
		}
		c, err := g.start(spec, p.put)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, os.ErrProcessDone):
			p.put(g)
			return nil, err
		}
		g.Close() // somebody killed it
	}
	g, err := NewGuard(nil)
	if err != nil {
		return nil, err
	}
	c, err := g.start(spec, p.put)
	if err != nil {
		p.put(g)
		return nil, err
	}
	return c, nil
}

func (p *Pool) get() *Guard {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	g := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return g
}

// put takes back an idle guard, or ends it.
func (p *Pool) put(g *Guard) {
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < p.Max
	if keep {
		p.idle = append(p.idle, g)
	}
	p.mu.Unlock()
	if !keep {
		g.Close()
	}
}

// Close ends the guards that are idle, and each other one at its child's end.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, g := range idle {
		g.Close()
	}
}
