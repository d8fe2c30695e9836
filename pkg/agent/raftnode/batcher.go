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
	maxBatchCommands = 256
	maxBatchBytes    = 1 << 20
)

// A carrier takes proposals to raft. One flight is under way at a time, and what
// arrives meanwhile goes together with the next: in few entries, one append, one
// wait for the disk. Who comes alone leaves at once.
type batcher struct {
	submit func(flight []*proposal)

	mu      sync.Mutex
	queue   []*proposal
	running bool
}

// A proposal is one command on its way. done is closed once the outcome is there.
type proposal struct {
	Command
	inBatch bool // by a flight; guarded by the carrier's mu

	done   chan struct{}
	result any
	err    error
}

func (p *proposal) resolve(result any, err error) {
	p.result, p.err = result, err
	close(p.done)
}

func (c *batcher) add(p *proposal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, p)
	if !c.running {
		c.running = true
		go c.run()
	}
}

// withdraw takes a proposal back, false if it has left already.
func (c *batcher) withdraw(p *proposal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.inBatch {
		c.queue = slices.DeleteFunc(c.queue, func(q *proposal) bool { return q == p })
	}
	return !p.inBatch
}

// run flies until nobody waits.
func (c *batcher) run() {
	for batch := c.nextBatch(); batch != nil; batch = c.nextBatch() {
		c.submit(batch)
	}
}

// next takes the oldest of the queue, nil if it is empty.
func (c *batcher) nextBatch() []*proposal {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	for ; n < min(len(c.queue), maxBatchCommands); n++ {
		if bytes += len(c.queue[n].Data); n > 0 && bytes > maxBatchBytes {
			break
		}
		c.queue[n].inBatch = true
	}
	batch := c.queue[:n:n]
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.running = n > 0
	if n == 0 {
		return nil
	}
	return batch
}

// fly proposes a flight and waits for its end. After raft's own end it may wait
// for ever; who waits for a proposal must not.
func (s *server) submit(batch []*proposal) {
	batch, stored := s.claimSpace(batch)
	defer stored()
	entries := splitEntries(batch)
	futures := make([]raft.ApplyFuture, len(entries))
	for i, entry := range entries {
		futures[i] = s.raft.Apply(s.encodeEntry(entry), enqueueTimeout)
	}
	for i, f := range futures {
		resolveEntry(entries[i], f)
	}
}

// admit refuses what the disk has no room for.
func (s *server) claimSpace(batch []*proposal) (accepted []*proposal, stored func()) {
	size := 0
	for _, p := range batch {
		if !p.Own {
			size += len(p.Data)
		}
	}
	if size == 0 {
		return batch, func() {}
	}
	stored, err := s.log.ClaimSpace(size)
	if err == nil {
		return batch, stored
	}
	for _, p := range batch {
		if p.Own {
			accepted = append(accepted, p)
		} else {
			p.resolve(nil, err)
		}
	}
	return accepted, func() {}
}

// entries cuts a flight into entries, in order. A command of a key that an entry
// has already opens the next one.
func splitEntries(batch []*proposal) [][]*proposal {
	var all [][]*proposal
	keys := make(map[string]bool, len(batch))
	begin := 0
	for i, p := range batch {
		if i > begin && (!p.Groups || !batch[begin].Groups || keys[p.Key]) {
			all = append(all, batch[begin:i])
			begin = i
			clear(keys)
		}
		keys[p.Key] = true
	}
	if begin < len(batch) {
		all = append(all, batch[begin:])
	}
	return all
}

func (s *server) encodeEntry(entry []*proposal) []byte {
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
func resolveEntry(entry []*proposal, f raft.ApplyFuture) {
	err := outcomeError(f, f.Error())
	if err != nil || len(entry) == 1 {
		for _, p := range entry {
			if err != nil {
				p.resolve(nil, err)
			} else {
				p.resolve(f.Response(), nil)
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
			p.resolve(nil, fmt.Errorf("apply %d commands: %w", len(entry), err))
		}
		return
	}
	for i, p := range entry {
		p.resolve(results[i], nil)
	}
}
