// Package clusterid makes sure that only servers with one common history talk to each
// other. Raft relies on that: an entry's index and term name its content, and a server
// that restarts remembers its votes and acknowledgements. Servers without a common
// history would silently delete or skip each other's entries. So a server says at the
// beginning of every connection who it is (Hello), and the other end verifies it
// (VerifyPeer).
//
// It promises:
//   - A cluster id, chosen when a cluster is founded, never becomes another one
//     under data that was stored. Whoever has another one is refused (ErrForeign).
//   - A server whose data directory was put back to an earlier state, or of whose
//     directory a copy has run since, is refused by every server that knows of a
//     later start (ErrOutdated): it may have forgotten votes and entries. Each start
//     is numbered and has a random name, and a server sends the names of its last
//     starts: so another history is recognised even after further starts.
//   - What is remembered is on disk before it is used, in DataDir/raft/cluster,
//     beside the votes: whoever restores those restores this file too.
package clusterid

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

var (
	// ErrForeign is in the chain of errors about a server of another cluster.
	ErrForeign = errors.New("it belongs to another cluster")

	// ErrOutdated is in the chain of errors about a server that has a later state than
	// the one that it started with.
	ErrOutdated = errors.New("its data directory is not the newest of this server")

	// ErrDamaged is in the chain of errors about a file that is not what was written.
	ErrDamaged = errors.New("damaged")
)

const (
	// maxRuns is how many of its starts a server can name.
	maxRuns = 64
	// maxPeers bounds how many servers are remembered; the one that was verified longest
	// ago is forgotten.
	maxPeers = 64
	// maxName bounds what is remembered of each: ids are UUIDs.
	maxName = 64
	// maxReason bounds what is kept of why a directory is outdated, in bytes.
	maxReason = 2048
)

// Hello is what a server says of itself.
type Hello struct {
	Cluster string   // "": it belongs to none yet
	ID      string   // the server's id
	Address string   // ip:port of its server port
	Start   uint64   // the number of this start
	Runs    []string // the names of its last starts, this one last
}

// Run is the name of the start that says this.
func (h Hello) Run() string {
	if len(h.Runs) == 0 {
		return ""
	}
	return h.Runs[len(h.Runs)-1]
}

// runAt is the name of an earlier start; false if it is not known any more.
func (h Hello) runAt(start uint64) (string, bool) {
	if start > h.Start || h.Start-start >= uint64(len(h.Runs)) {
		return "", false
	}
	return h.Runs[uint64(len(h.Runs))-1-(h.Start-start)], true
}

// peerStart is what is remembered of a server: its newest start.
type peerStart struct {
	Start uint64
	Run   string
	At    time.Time // when this start was verified first
}

// Identity is what a server says of itself, and what it knows of others. It is safe for
// concurrent use.
type Identity struct {
	path string // "" keeps nothing
	id   string

	mu    sync.Mutex
	saved content
}

// Open reads the identity of the server with this id from its data directory, and
// notes that it has started once more. "" as the directory keeps everything in
// memory. It refuses a directory that was found to be outdated.
func Open(dataDir, id string) (*Identity, error) {
	i := &Identity{path: pathIn(dataDir), id: id}
	saved, err := read(i.path)
	if err != nil {
		return nil, err
	}
	if saved.Outdated != "" {
		return nil, Outdated(saved.Outdated)
	}
	// The first number of a new directory is the present time, which is higher than all
	// numbers of starts that it may have had before it was emptied: it is not taken for
	// an earlier state. What such a server may do is not decided here.
	if saved.Start++; len(saved.Runs) == 0 {
		saved.Start = uint64(time.Now().UnixMilli())
	}
	saved.Runs = append(saved.Runs, newRun())
	saved.Runs = slices.Clone(saved.Runs[max(0, len(saved.Runs)-maxRuns):])
	if err := i.save(saved); err != nil {
		return nil, err
	}
	return i, nil
}

func newRun() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Cluster is the id of the cluster that the server belongs to, "" for none.
func (i *Identity) Cluster() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.saved.Cluster
}

// Confirmed is Cluster, but "" while Confirm may still undo it.
func (i *Identity) Confirmed() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.saved.Open {
		return ""
	}
	return i.saved.Cluster
}

// Hello is what the server at this address says of itself.
func (i *Identity) Hello(address string) Hello {
	i.mu.Lock()
	defer i.mu.Unlock()
	return Hello{Cluster: i.saved.Cluster, ID: i.id, Address: address, Start: i.saved.Start, Runs: i.saved.Runs}
}

// Join makes the server one of this cluster. Until Confirm it may still be undone.
// One that belongs to another cluster stays there (ErrForeign).
func (i *Identity) Join(cluster string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.saved.Cluster == cluster {
		return nil
	}
	if i.saved.Cluster != "" {
		return fmt.Errorf("take the cluster id %s: %w: this server has the id %s", cluster, ErrForeign, i.saved.Cluster)
	}
	return i.update(func(c *content) { c.Cluster, c.Open = cluster, true })
}

// Confirm records whether the server has raft state. Without it, a cluster that was joined
// is forgotten; from the first state on it is final.
func (i *Identity) Confirm(hasState bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case !i.saved.Open:
		return nil
	case hasState:
		return i.update(func(c *content) { c.Open = false })
	default:
		return i.update(func(c *content) { c.Cluster, c.Open = "", false })
	}
}

// VerifyPeer checks a server by its Hello, and remembers its start. An error says why nothing may be
// exchanged with it; its start is not remembered then.
func (i *Identity) VerifyPeer(h Hello) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if own := i.saved.Cluster; own != "" && h.Cluster != "" && own != h.Cluster {
		return Foreign(h.Cluster, own)
	}
	if h.ID == "" || h.ID == i.id || len(h.Runs) == 0 {
		return nil
	}
	if len(h.ID) > maxName || len(h.Run()) > maxName {
		return fmt.Errorf("its id %.80q or the name of its start is longer than %d bytes", h.ID, maxName)
	}
	known, ok := i.saved.Peers[h.ID]
	if ok && known.Start == h.Start && known.Run == h.Run() {
		return nil
	}
	if ok {
		if h.Start < known.Start {
			return Outdated(fmt.Sprintf("this is its start number %d, and it has been seen in start number %d", h.Start, known.Start))
		}
		if run, told := h.runAt(known.Start); told && run != known.Run {
			return Outdated(fmt.Sprintf("its start number %d was another one (%s) than the one that was seen here (%s), so two copies of it have run", known.Start, run, known.Run))
		}
	}
	return i.update(func(c *content) {
		c.Peers[h.ID] = peerStart{h.Start, h.Run(), time.Now().UTC()}
		for len(c.Peers) > maxPeers {
			oldest := slices.MinFunc(slices.Collect(maps.Keys(c.Peers)), func(a, b string) int {
				return cmp.Or(c.Peers[a].At.Compare(c.Peers[b].At), cmp.Compare(a, b))
			})
			delete(c.Peers, oldest)
		}
	})
}

// Knows says whether this start of a server has been verified.
func (i *Identity) Knows(id string, start uint64, run string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.saved.Peers[id]
	return ok && known.Start == start && known.Run == run
}

// MarkOutdated records why this directory must not be used any more under its server's
// id: Open refuses it from then on.
func (i *Identity) MarkOutdated(why string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.update(func(c *content) { c.Outdated = why[:min(len(why), maxReason)] })
}

// update changes what is saved, on disk first. The caller holds mu.
func (i *Identity) update(change func(*content)) error {
	next := i.saved
	next.Peers = maps.Clone(next.Peers)
	if next.Peers == nil {
		next.Peers = map[string]peerStart{}
	}
	change(&next)
	return i.save(next)
}

// Foreign is the error about a server of another cluster than this one's, with what
// to do about it.
func Foreign(theirs, own string) error {
	return fmt.Errorf("%w, %s, and not to this one, %s: they share no history, so nothing is exchanged. "+
		"If one of the two is a mistake, keep the cluster that holds your data; stop each server of the other one, move its data directory away and start it with "+
		"-retry-join=ADDRESS-OF-A-SERVER-TO-KEEP and without -bootstrap or -bootstrap-expect", ErrForeign, theirs, own)
}

// Outdated is the error about a server with a later state, with what to do about it.
func Outdated(why string) error {
	return fmt.Errorf("%w (%s): it was put back to an earlier state, or a copy of it is in use, so that votes and acknowledged entries may be missing in it. "+
		"Stop the server and start it once with -repair: it then joins as a new server and gets its data from the others", ErrOutdated, why)
}

// Founder is one of the servers that found a cluster together.
type Founder struct {
	ID  string // server id
	Run string // name of its start
}

// FoundedBy is the id of the cluster that these servers found. All of them derive the same
// one, and no later foundation does: its founders have started anew.
func FoundedBy(founders []Founder) string {
	sorted := slices.SortedFunc(slices.Values(founders), func(a, b Founder) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Run, b.Run))
	})
	hash := sha256.New()
	for _, f := range sorted {
		_, _ = fmt.Fprintf(hash, "%q %q\n", f.ID, f.Run)
	}
	return format(hash.Sum(nil))
}

// New is a random id, for a cluster that was founded before there were ids.
func New() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return format(b[:])
}

func format(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
