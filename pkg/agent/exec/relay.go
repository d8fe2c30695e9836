package exec

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	// MaxRelayed is how many bytes of output a server holds on their way.
	MaxRelayed = 64 << 20
	// relayWindow is how many of them are one node's of one job.
	relayWindow = 256 << 10
	// relayHold is how long a node is kept waiting for room, or to be wanted.
	relayHold = 20 * time.Second
	// relayIdle is how long output without a reader is kept.
	relayIdle = 10 * time.Minute
)

// Relay is where output passes on its way from nodes to those who read it: in the
// leader's memory, never in the log. A node sends chunks by number and learns
// which is wanted next; it keeps them all, so that a reader who comes late, or to
// another leader, has them sent again. It is safe for concurrent use.
type Relay struct {
	mu     sync.Mutex
	jobs   map[string]*relayed
	size   int           // bytes of all chunks
	wanted chan struct{} // closed when something is wanted that nobody sends
}

// relayed is the output of one job.
type relayed struct {
	nodes   map[string]*buffer // by lower-case name
	readers map[*Reader]struct{}
	changed chan struct{} // closed at every change
	used    time.Time
}

// buffer holds chunks base to next of one node.
type buffer struct {
	node    string
	base    uint64
	chunks  []api.ExecChunk
	bytes   int
	pending bool // a reader waits, and the node has not sent anything since
	starved bool // the node was sent away for want of room
}

func (b *buffer) next() uint64 { return b.base + uint64(len(b.chunks)) }

// NewRelay makes an empty relay.
func NewRelay() *Relay {
	return &Relay{jobs: map[string]*relayed{}, wanted: make(chan struct{})}
}

func (r *Relay) job(id string) *relayed {
	j := r.jobs[id]
	if j == nil {
		r.sweep()
		j = &relayed{nodes: map[string]*buffer{}, readers: map[*Reader]struct{}{}, changed: make(chan struct{})}
		r.jobs[id] = j
	}
	j.used = time.Now()
	return j
}

func (j *relayed) buffer(node string) *buffer {
	key := strings.ToLower(node)
	b := j.nodes[key]
	if b == nil {
		b = &buffer{node: node}
		j.nodes[key] = b
		j.settle(b)
	}
	return b
}

func (j *relayed) fire() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// sweep drops what nobody has read for long.
func (r *Relay) sweep() {
	for id, j := range r.jobs {
		if len(j.readers) == 0 && time.Since(j.used) > relayIdle {
			r.drop(id)
		}
	}
}

// drop forgets a job's output: its nodes have it.
func (r *Relay) drop(id string) {
	for _, b := range r.jobs[id].nodes {
		r.size -= b.bytes
	}
	r.jobs[id].fire()
	delete(r.jobs, id)
}

// Push takes chunks, of which the first has the number seq, and says which number
// it wants next: another than the one behind the last if it wants to have some
// again, or has no room for them yet. It waits for room for a while.
func (r *Relay) Push(ctx context.Context, id, node string, seq uint64, chunks []api.ExecChunk) uint64 {
	n := 0
	for _, c := range chunks {
		n += len(c.Data)
	}
	timer := time.NewTimer(relayHold)
	defer timer.Stop()
	for {
		r.mu.Lock()
		j := r.job(id)
		b := j.buffer(node)
		next, changed := b.next(), j.changed
		if next == seq {
			b.pending, b.starved = false, false
			if r.hasRoom(id, b, n) {
				b.chunks = append(b.chunks, chunks...)
				b.bytes += n
				r.size += n
				j.fire()
				next = b.next()
			}
		}
		r.mu.Unlock()
		if next != seq || len(chunks) == 0 {
			return next
		}
		select {
		case <-changed:
		case <-timer.C:
			r.turnAway(id, node)
			return seq
		case <-ctx.Done():
			return seq
		}
	}
}

func (r *Relay) turnAway(id, node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job(id).buffer(node).starved = true
}

// hasRoom drops output without readers where the relay is full.
func (r *Relay) hasRoom(id string, b *buffer, n int) bool {
	if b.bytes > 0 && b.bytes+n > relayWindow {
		return false
	}
	for other, j := range r.jobs {
		if r.size+n <= MaxRelayed {
			break
		}
		if other != id && len(j.readers) == 0 {
			r.drop(other)
		}
	}
	return r.size+n <= MaxRelayed
}

// settle drops what every reader has, and goes back, or ahead, to where the
// hindmost of them stands.
func (j *relayed) settle(b *buffer) (dropped int) {
	if len(j.readers) == 0 {
		return 0
	}
	hindmost := ^uint64(0)
	for r := range j.readers {
		hindmost = min(hindmost, r.have[strings.ToLower(b.node)])
	}
	if hindmost < b.base || hindmost > b.next() {
		dropped = b.bytes
		b.base, b.chunks, b.bytes, b.pending = hindmost, nil, 0, true
		return dropped
	}
	for b.base < hindmost {
		dropped += len(b.chunks[0].Data)
		b.chunks = b.chunks[1:]
		b.base++
	}
	b.bytes -= dropped
	if dropped > 0 && b.starved {
		b.starved, b.pending = false, true
	}
	return dropped
}

// Wanted returns those of the given jobs whose output somebody reads who has
// nothing of this node yet, and waits a while for one.
func (r *Relay) Wanted(ctx context.Context, node string, ids []string) []string {
	timer := time.NewTimer(relayHold)
	defer timer.Stop()
	key := strings.ToLower(node)
	for {
		var out []string
		r.mu.Lock()
		for _, id := range ids {
			if j := r.jobs[id]; j != nil && j.nodes[key] != nil && j.nodes[key].pending {
				out = append(out, id)
			}
		}
		wanted := r.wanted
		r.mu.Unlock()
		if len(out) > 0 {
			return out
		}
		select {
		case <-wanted:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// Reader reads the output of one job. It belongs to one goroutine.
type Reader struct {
	relay *Relay
	id    string
	have  map[string]uint64 // by lower-case name; guarded by the relay's mutex
}

// Read begins to read. have says how many chunks of each node are there already;
// those of nodes that are named, be it with 0, are asked for.
func (r *Relay) Read(id string, have map[string]uint64) *Reader {
	rd := &Reader{relay: r, id: id, have: map[string]uint64{}}
	for node, n := range have {
		rd.have[strings.ToLower(node)] = n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.job(id)
	j.readers[rd] = struct{}{}
	for node := range have {
		if key := strings.ToLower(node); j.nodes[key] == nil {
			j.nodes[key] = &buffer{node: node, base: rd.have[key], pending: true}
		}
	}
	r.resettle(j)
	return rd
}

func (r *Relay) resettle(j *relayed) {
	pending := false
	for _, b := range j.nodes {
		r.size -= j.settle(b)
		pending = pending || b.pending
	}
	j.fire()
	if pending {
		r.fireWanted()
	}
}

func (r *Relay) fireWanted() {
	close(r.wanted)
	r.wanted = make(chan struct{})
}

// Next returns what is new, one value for each node that has something, or, after
// the given time, nothing.
func (rd *Reader) Next(ctx context.Context, quiet time.Duration) ([]api.ExecOutput, error) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		out, changed := rd.take()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (rd *Reader) take() ([]api.ExecOutput, <-chan struct{}) {
	r := rd.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.job(rd.id)
	var out []api.ExecOutput
	pending := false
	for key, b := range j.nodes {
		at := rd.have[key]
		if at < b.base || at >= b.next() {
			continue
		}
		out = append(out, api.ExecOutput{Node: b.node, Seq: at, Chunks: slices.Clone(b.chunks[at-b.base:])})
		rd.have[key] = b.next()
		r.size -= j.settle(b)
		pending = pending || b.pending
	}
	changed := j.changed
	if len(out) > 0 {
		j.fire() // there is room again
	}
	if pending {
		r.fireWanted()
	}
	slices.SortFunc(out, func(a, b api.ExecOutput) int { return cmp.Compare(a.Node, b.Node) })
	return out, changed
}

// Close ends the reading.
func (rd *Reader) Close() {
	rd.relay.mu.Lock()
	defer rd.relay.mu.Unlock()
	if j := rd.relay.jobs[rd.id]; j != nil {
		delete(j.readers, rd)
		rd.relay.resettle(j)
	}
}
