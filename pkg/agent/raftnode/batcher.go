package raftnode

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// A batch is bounded; a longer queue takes several, one after the other. A single
// command may be larger than maxBatchBytes.
const (
	maxBatchCommands = 256
	maxBatchBytes    = 1 << 20
)

// A batcher hands proposals to raft in batches. One batch is under way at a time. The
// proposals that arrive meanwhile form the next one, with few entries, one append and
// one wait for the disk. A proposal that comes alone is submitted at once.
type batcher struct {
	submit func(batch []*proposal)

	mu      sync.Mutex
	queue   []*proposal
	running bool
}

// A proposal is one command under way. done is closed when its outcome is known.
type proposal struct {
	Command
	inBatch bool // guarded by the batcher's mu

	done   chan struct{}
	result any
	err    error
}

func (p *proposal) resolve(result any, err error) {
	p.result, p.err = result, err
	close(p.done)
}

func (b *batcher) add(p *proposal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, p)
	if !b.running {
		b.running = true
		go b.run()
	}
}

// withdraw takes a proposal back. It returns false if the proposal is in a batch.
func (b *batcher) withdraw(p *proposal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !p.inBatch {
		b.queue = slices.DeleteFunc(b.queue, func(q *proposal) bool { return q == p })
	}
	return !p.inBatch
}

// run submits batches until the queue is empty.
func (b *batcher) run() {
	for batch := b.nextBatch(); batch != nil; batch = b.nextBatch() {
		b.submit(batch)
	}
}

// nextBatch takes the oldest proposals of the queue, nil if it is empty.
func (b *batcher) nextBatch() []*proposal {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := 0, 0
	for ; n < min(len(b.queue), maxBatchCommands); n++ {
		if bytes += len(b.queue[n].Data); n > 0 && bytes > maxBatchBytes {
			break
		}
		b.queue[n].inBatch = true
	}
	batch := b.queue[:n:n]
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	b.running = n > 0
	if n == 0 {
		return nil
	}
	return batch
}

// submit proposes a batch and waits for its outcome. Once raft has stopped it may wait
// for ever, so whoever waits for a proposal must watch for raft's stop as well.
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

// claimSpace refuses the proposals for which the disk has no space.
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

// splitEntries divides a batch into entries, in order. A command whose key the entry
// already has starts the next entry.
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

// resolveEntry gives each proposal of an entry its outcome.
func resolveEntry(entry []*proposal, f raft.ApplyFuture) {
	err := outcomeError(f, f.Error())
	if err == nil && len(entry) == 1 {
		entry[0].resolve(f.Response(), nil)
		return
	}
	var results []any
	if err == nil {
		results, err = groupResults(f.Response(), len(entry))
	}
	for i, p := range entry {
		if err != nil {
			p.resolve(nil, err)
		} else {
			p.resolve(results[i], nil)
		}
	}
}

// groupResults are the results of an entry's n commands.
func groupResults(response any, n int) ([]any, error) {
	results, ok := response.([]any)
	if ok && len(results) == n {
		return results, nil
	}
	err, isErr := response.(error)
	if !isErr {
		err = errors.New("the state machine did not answer each of them")
	}
	return nil, fmt.Errorf("apply %d commands: %w", n, err)
}
