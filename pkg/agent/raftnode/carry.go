package raftnode

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// What one flight carries at most. Longer queues take several, one after the
// other. A single command may be larger.
const (
	flightCommands = 256
	flightBytes    = 1 << 20
)

// A carrier takes proposals to raft. One flight is under way at a time, and what
// arrives meanwhile goes together with the next: in few entries, one append, one
// wait for the disk. Who comes alone leaves at once.
type carrier struct {
	fly func(flight []*proposal)

	mu     sync.Mutex
	queue  []*proposal
	flying bool
}

// A proposal is one command on its way. done is closed once the outcome is there.
type proposal struct {
	Command
	taken bool // by a flight; guarded by the carrier's mu

	done   chan struct{}
	result any
	err    error
}

func (p *proposal) end(result any, err error) {
	p.result, p.err = result, err
	close(p.done)
}

func (c *carrier) add(p *proposal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, p)
	if !c.flying {
		c.flying = true
		go c.run()
	}
}

// withdraw takes a proposal back, false if it has left already.
func (c *carrier) withdraw(p *proposal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.taken {
		c.queue = slices.DeleteFunc(c.queue, func(q *proposal) bool { return q == p })
	}
	return !p.taken
}

// run flies until nobody waits.
func (c *carrier) run() {
	for flight := c.next(); flight != nil; flight = c.next() {
		c.fly(flight)
	}
}

// next takes the oldest of the queue, nil if it is empty.
func (c *carrier) next() []*proposal {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	for ; n < min(len(c.queue), flightCommands); n++ {
		if bytes += len(c.queue[n].Data); n > 0 && bytes > flightBytes {
			break
		}
		c.queue[n].taken = true
	}
	flight := c.queue[:n:n]
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.flying = n > 0
	if n == 0 {
		return nil
	}
	return flight
}

// fly proposes a flight and waits for its end. After raft's own end it may wait
// for ever; who waits for a proposal must not.
func (s *server) fly(flight []*proposal) {
	flight, stored := s.admit(flight)
	defer stored()
	cut := entries(flight)
	futures := make([]raft.ApplyFuture, len(cut))
	for i, entry := range cut {
		futures[i] = s.raft.Apply(s.pack(entry), enqueueTimeout)
	}
	for i, f := range futures {
		land(cut[i], f)
	}
}

// admit refuses what the disk has no room for.
func (s *server) admit(flight []*proposal) (admitted []*proposal, stored func()) {
	size := 0
	for _, p := range flight {
		if !p.Own {
			size += len(p.Data)
		}
	}
	if size == 0 {
		return flight, func() {}
	}
	stored, err := s.log.Admit(size)
	if err == nil {
		return flight, stored
	}
	for _, p := range flight {
		if p.Own {
			admitted = append(admitted, p)
		} else {
			p.end(nil, err)
		}
	}
	return admitted, func() {}
}

// entries cuts a flight into entries, in order. A command of a key that an entry
// has already opens the next one.
func entries(flight []*proposal) [][]*proposal {
	var all [][]*proposal
	keys := make(map[string]bool, len(flight))
	begin := 0
	for i, p := range flight {
		if i > begin && (!p.Groups || !flight[begin].Groups || keys[p.Key]) {
			all = append(all, flight[begin:i])
			begin = i
			clear(keys)
		}
		keys[p.Key] = true
	}
	if begin < len(flight) {
		all = append(all, flight[begin:])
	}
	return all
}

func (s *server) pack(entry []*proposal) []byte {
	if len(entry) == 1 {
		return entry[0].Data
	}
	commands := make([][]byte, len(entry))
	for i, p := range entry {
		commands[i] = p.Data
	}
	return s.cfg.Group(commands)
}

// land gives everybody of an entry the outcome.
func land(entry []*proposal, f raft.ApplyFuture) {
	err := verdict(f, f.Error())
	if err != nil || len(entry) == 1 {
		for _, p := range entry {
			if err != nil {
				p.end(nil, err)
			} else {
				p.end(f.Response(), nil)
			}
		}
		return
	}
	results, ok := f.Response().([]any)
	if !ok || len(results) != len(entry) {
		err, isErr := f.Response().(error)
		if !isErr {
			err = errors.New("the state machine did not answer each of them")
		}
		for _, p := range entry {
			p.end(nil, fmt.Errorf("apply %d commands: %w", len(entry), err))
		}
		return
	}
	for i, p := range entry {
		p.end(results[i], nil)
	}
}
