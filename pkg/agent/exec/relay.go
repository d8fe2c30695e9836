package exec

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/broadcast"
)

const (
	// MaxRelayed limits the output in a server's memory, in bytes.
	MaxRelayed = 64 << 20
	// relayWindow limits the output of one node for one job, in bytes.
	relayWindow = 256 << 10
	// relayMaxWait is how long a request of a node waits for space, or for a reader.
	relayMaxWait = 20 * time.Second
	// relayIdle is how long output without a reader is kept.
	relayIdle = 10 * time.Minute
)

// Relay passes output from nodes to its readers, in the leader's memory and never
// in the raft log. A node sends chunks by number and learns which number is wanted
// next. It keeps them all, so that a late reader, or a reader at another leader,
// can have them sent again. Relay is safe for concurrent use.
type Relay struct {
	mu     sync.Mutex
	jobs   map[string]*jobOutput
	size   int              // bytes of all chunks
	wanted broadcast.Signal // some buffer has become pending
}

// jobOutput is the output of one job.
type jobOutput struct {
	nodes   map[string]*buffer // by lower-case name
	readers map[*Reader]struct{}
	changed broadcast.Signal
	used    time.Time
}

// buffer holds the chunks base to next-1 of one node.
type buffer struct {
	node    string
	base    uint64
	chunks  []api.ExecChunk
	bytes   int
	pending bool // a reader waits, and the node has not sent anything since
	starved bool // a request of the node ended because there was no space
}

func (b *buffer) next() uint64 { return b.base + uint64(len(b.chunks)) }

// NewRelay makes an empty relay.
func NewRelay() *Relay {
	return &Relay{jobs: map[string]*jobOutput{}}
}

func (r *Relay) job(id string) *jobOutput {
	j := r.jobs[id]
	if j == nil {
		r.dropIdle()
		j = &jobOutput{nodes: map[string]*buffer{}, readers: map[*Reader]struct{}{}}
		r.jobs[id] = j
	}
	j.used = time.Now()
	return j
}

func (j *jobOutput) buffer(node string) *buffer {
	key := strings.ToLower(node)
	b := j.nodes[key]
	if b == nil {
		b = &buffer{node: node}
		j.nodes[key] = b
		j.trim(b)
	}
	return b
}

// dropIdle drops the output that nobody has read for relayIdle.
func (r *Relay) dropIdle() {
	for id, j := range r.jobs {
		if len(j.readers) == 0 && time.Since(j.used) > relayIdle {
			r.drop(id)
		}
	}
}

// drop drops a job's output: its nodes keep it.
func (r *Relay) drop(id string) {
	for _, b := range r.jobs[id].nodes {
		r.size -= b.bytes
	}
	r.jobs[id].changed.Notify()
	delete(r.jobs, id)
}

// Push adds chunks, the first of which has the number seq, and returns the number
// that is wanted next. That is not the one after the last chunk if some are wanted
// again, or if there was no space for them within relayMaxWait.
func (r *Relay) Push(ctx context.Context, id, node string, seq uint64, chunks []api.ExecChunk) uint64 {
	n := 0
	for _, c := range chunks {
		n += len(c.Data)
	}
	timer := time.NewTimer(relayMaxWait)
	defer timer.Stop()
	for {
		r.mu.Lock()
		j := r.job(id)
		b := j.buffer(node)
		next, changed := b.next(), j.changed.Changed()
		if next == seq {
			b.pending, b.starved = false, false
			if r.makeSpace(id, b, n) {
				b.chunks = append(b.chunks, chunks...)
				b.bytes += n
				r.size += n
				j.changed.Notify()
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
			r.markStarved(id, node)
			return seq
		case <-ctx.Done():
			return seq
		}
	}
}

func (r *Relay) markStarved(id, node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job(id).buffer(node).starved = true
}

// makeSpace says whether there is space for n bytes more. Where the relay is full
// it drops output that has no readers.
func (r *Relay) makeSpace(id string, b *buffer, n int) bool {
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

// trim drops the chunks that every reader has. Where the slowest reader is not
// within the buffer, the buffer becomes empty and begins at that reader's number.
// It returns how many bytes were dropped.
func (j *jobOutput) trim(b *buffer) (dropped int) {
	if len(j.readers) == 0 {
		return 0
	}
	slowest := ^uint64(0)
	for r := range j.readers {
		slowest = min(slowest, r.have[strings.ToLower(b.node)])
	}
	if slowest < b.base || slowest > b.next() {
		dropped = b.bytes
		b.base, b.chunks, b.bytes, b.pending = slowest, nil, 0, true
		return dropped
	}
	for b.base < slowest {
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

// Wanted returns those of the given jobs whose readers wait for output of this
// node that it has to send again. It waits up to relayMaxWait for one.
func (r *Relay) Wanted(ctx context.Context, node string, ids []string) []string {
	timer := time.NewTimer(relayMaxWait)
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
		wanted := r.wanted.Changed()
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

// Read makes a reader. have says how many chunks of each node the reader has
// already. The nodes named in it, also those with 0, are asked for their output.
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
	r.trimAll(j)
	return rd
}

// trimAll trims all buffers of a job after its readers have changed.
func (r *Relay) trimAll(j *jobOutput) {
	pending := false
	for _, b := range j.nodes {
		r.size -= j.trim(b)
		pending = pending || b.pending
	}
	j.changed.Notify()
	if pending {
		r.wanted.Notify()
	}
}

// Next waits for output and returns it, one value for each node that has some. It
// returns nothing after maxWait without output.
func (rd *Reader) Next(ctx context.Context, maxWait time.Duration) ([]api.ExecOutput, error) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for {
		out, changed := rd.poll()
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

// poll returns the output that is there, and what is closed when there is more.
func (rd *Reader) poll() ([]api.ExecOutput, <-chan struct{}) {
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
		r.size -= j.trim(b)
		pending = pending || b.pending
	}
	changed := j.changed.Changed()
	if len(out) > 0 {
		j.changed.Notify() // there is space again
	}
	if pending {
		r.wanted.Notify()
	}
	slices.SortFunc(out, func(a, b api.ExecOutput) int { return cmp.Compare(a.Node, b.Node) })
	return out, changed
}

// Close removes the reader.
func (rd *Reader) Close() {
	rd.relay.mu.Lock()
	defer rd.relay.mu.Unlock()
	if j := rd.relay.jobs[rd.id]; j != nil {
		delete(j.readers, rd)
		rd.relay.trimAll(j)
	}
}
