package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// entryLog is raft's log in segments. Every change, a deletion too, is appended as a batch,
// which is on disk before the next batch begins. Segments all of whose entries are deleted
// are removed.
type entryLog struct {
	dir         files
	segmentSize int64              // bytes of a segment
	stored      func(batch uint64) // called with each batch that is on disk

	// writing is held during a write, mu only while what readers use changes. Who
	// needs both locks writing first.
	writing sync.Mutex
	batch   uint64 // the newest on disk
	torn    uint32 // how many sectors after the end may hold a part of a failed write
	content []byte // of the batch that is being written, and its sectors
	sectors []byte

	mu       sync.RWMutex
	segments []*segment // the last one is written to
	first    uint64     // index of entries[0]
	entries  []location
}

// location is where an entry lies, and the commit index that came with it.
type location struct {
	segment *segment
	at      uint64 // in the segment's content
	size    int
	commit  uint64
}

// last is the newest entry's index, first-1 without entries. The caller holds mu.
func (l *entryLog) last() uint64 { return l.first + uint64(len(l.entries)) - 1 }

// bounds are 0, 0 without entries.
func (l *entryLog) bounds() (first, last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.entries) == 0 {
		return 0, 0
	}
	return l.first, l.last()
}

// commit is the newest entry, and the commit index that came with it.
func (l *entryLog) commit() (last, commit uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.entries) == 0 {
		return 0, 0
	}
	return l.last(), l.entries[len(l.entries)-1].commit
}

// get reads and verifies one entry.
func (l *entryLog) get(index uint64, log *raft.Log) error {
	l.mu.RLock() // also while reading: a segment that is removed is closed
	defer l.mu.RUnlock()
	if index < l.first || index > l.last() {
		return raft.ErrLogNotFound
	}
	p := l.entries[index-l.first]
	content, err := p.segment.read(p.at, p.size)
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	if has, size, err := entryAt(content); err != nil || has != index || size != p.size {
		return p.segment.damaged(fmt.Errorf("it holds something else where entry %d was", index))
	}
	readEntry(content, log)
	return nil
}

// store appends consecutive entries. They replace the entries from the first one's index
// on. Raft leaves a gap only after a snapshot that covers all earlier entries; then these
// are deleted, too.
func (l *entryLog) store(logs []*raft.Log, commit uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.content = begin(l.content, batchEntries)
	l.content = binary.BigEndian.AppendUint64(l.content, commit)
	for i, log := range logs {
		if log.Index != logs[0].Index+uint64(i) {
			return fmt.Errorf("entry %d was to be stored after entry %d", log.Index, logs[i-1].Index)
		}
		l.content = appendEntry(l.content, log)
	}
	seg, at, err := l.append()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at += batchHead + commitSize
	for _, log := range logs {
		size := entrySize(log)
		l.add(log.Index, location{seg, at, size, commit})
		at += uint64(size)
	}
	return nil
}

// add adds an entry to the index. The caller holds mu.
func (l *entryLog) add(index uint64, p location) {
	switch {
	case len(l.entries) == 0 || index < l.first || index > l.last()+1:
		l.first, l.entries = index, l.entries[:0]
	default:
		l.entries = l.entries[:index-l.first]
	}
	l.entries = append(l.entries, p)
}

// deleteRange deletes the entries from min to max, at either end.
func (l *entryLog) deleteRange(min, max uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	first, last := l.first, l.last() // nobody else changes them
	switch {
	case len(l.entries) == 0 || min > max || max < first || min > last:
		return nil
	case min <= first:
		first = max + 1
	case max >= last:
		last = min - 1
	default:
		return fmt.Errorf("entries %d to %d lie in the middle of %d to %d", min, max, first, last)
	}
	l.content = begin(l.content, batchBounds)
	l.content = binary.BigEndian.AppendUint64(l.content, first)
	l.content = binary.BigEndian.AppendUint64(l.content, last)
	if _, _, err := l.append(); err != nil {
		return err
	}
	l.trim(first, last)
	return l.removeOld()
}

// trim drops the entries outside first to last.
func (l *entryLog) trim(first, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last < l.last() {
		l.entries = l.entries[:max(last+1, l.first)-l.first]
	}
	if first > l.first {
		// Into a slice of its own: the old one holds on to closed segments.
		l.entries = append([]location(nil), l.entries[min(first-l.first, uint64(len(l.entries))):]...)
		l.first = first
	}
}

// removeOld removes the segments before the oldest entry's, the oldest first. The
// caller holds writing.
func (l *entryLog) removeOld() error {
	for len(l.segments) > 1 && (len(l.entries) == 0 || l.segments[0].number < l.entries[0].segment.number) {
		old := l.segments[0]
		l.mu.Lock()
		l.segments = l.segments[1:]
		l.mu.Unlock()
		if err := errors.Join(old.close(), l.dir.remove(segmentName(old.number))); err != nil {
			return fmt.Errorf("remove %s, which is not needed any more: %w", old.path, err)
		}
	}
	return nil
}

func begin(b []byte, kind byte) []byte { return append(b[:0], kind, 0, 0, 0, 0) }

// append writes the batch in content, and says where its content begins. What a failed
// write left on disk is unknown: its sectors are zeroed before the next write. The caller
// holds writing.
func (l *entryLog) append() (_ *segment, at uint64, err error) {
	need := sectorsFor(len(l.content))
	seg := l.segments[len(l.segments)-1]
	if l.torn > 0 {
		if err := zeroSectors(seg, seg.end, l.torn); err != nil {
			return nil, 0, err
		}
		l.torn = 0
	}
	if seg.end+need+1 > seg.sectors { // the end mark has to fit, too
		if seg, err = l.nextSegment(need); err != nil {
			return nil, 0, err
		}
	}
	at = uint64(seg.end) * sectorPayload
	if err := l.write(seg, l.content); err != nil {
		return nil, 0, err
	}
	const kept = 1 << 20 // of buffers; a large batch is rare
	if cap(l.content) > kept {
		l.content, l.sectors = nil, nil
	}
	return seg, at, nil
}

// nextSegment makes the next segment, then ends the present one: from then on it is an
// error if the next one does not exist.
func (l *entryLog) nextSegment(need uint32) (*segment, error) {
	now := l.segments[len(l.segments)-1]
	h := head{size: uint64(l.segmentSize), batch: l.batch + 2, first: l.first, last: l.last()}
	next, err := makeSegment(l.dir, now.number+1, need, h)
	if err != nil {
		return nil, err
	}
	if err := l.write(now, begin(nil, batchEnd)); err != nil {
		return nil, errors.Join(err, next.close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(l.segments, next)
	return next, nil
}

// write puts one batch on disk.
func (l *entryLog) write(seg *segment, content []byte) error {
	binary.BigEndian.PutUint32(content[1:], uint32(len(content)-batchHead))
	l.sectors = pack(l.sectors[:0], content, seg.number, seg.end, l.batch+1)
	n := uint32(len(l.sectors) / sectorSize)
	if err := seg.write(l.sectors, int64(seg.end)*sectorSize); err != nil {
		l.torn = n
		return fmt.Errorf("write %s: %w", seg.path, err)
	}
	seg.end += n
	l.batch++
	l.stored(l.batch)
	return nil
}

// zeroSectors makes sectors blank.
func zeroSectors(seg *segment, from, n uint32) error {
	if err := seg.write(make([]byte, int(n)*sectorSize), int64(from)*sectorSize); err != nil {
		return fmt.Errorf("write %s: %w", seg.path, err)
	}
	return nil
}

func (l *entryLog) close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	for _, seg := range l.segments {
		failed = errors.Join(failed, seg.close())
	}
	return failed
}
