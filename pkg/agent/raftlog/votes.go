package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// The votes file holds raft's few values: term, vote, and the commit index that is
// stored by itself. All of them are written at once, alternately to two sectors on
// different pages. An interrupted write leaves the other sector intact. The two always
// have consecutive numbers, so a sector that was blanked is detected.
//
//	newest batch of the log 8 | per value: size of key 1, size of value 2, key, value
//
// Two more sectors record, also alternately, which batch of the log is the newest on
// disk. Nobody waits for these writes: they cost next to nothing, and survive the end of
// the process, if not of the machine. One that cannot be read is ignored.
const (
	votesFile  = "votes"
	votesID    = 0 // in the place of a segment's number
	votesPage  = 4096 / sectorSize
	votesPages = 4 // two of values, two of batch numbers
)

type votes struct {
	file
	path string

	mu       sync.Mutex // also while values are written
	values   map[string][]byte
	voteTerm []byte // held back until its candidate is set (voterules.go)
	number   uint64 // of the newest sector of values
	unsure   bool   // the last write failed: it may be on disk all the same

	newest atomic.Uint64 // batch of the log that is on disk
	buf    []byte        // of stored; the log's writer uses it
}

var errVotes = errors.New("it is not one of the two newest of its kind")

func makeVotes(dir files) (*votes, error) {
	f, err := dir.create(votesFile, votesPages*votesPage*sectorSize)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", dir.path(votesFile), err)
	}
	v := &votes{file: f, path: dir.path(votesFile), values: map[string][]byte{}}
	for range 2 {
		if err := v.put(v.values); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	return v, nil
}

func openVotes(dir files) (_ *votes, err error) {
	f, err := dir.open(votesFile)
	if err != nil {
		return nil, fmt.Errorf("open raft's votes: %w", err)
	}
	v := &votes{file: f, path: dir.path(votesFile)}
	if err := v.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("raft's votes in %s are %w: %w", v.path, ErrDamaged, err), f.close())
	}
	return v, nil
}

// load reads the newest values. Both sectors have to be valid: otherwise a blanked newest
// sector, and with it a vote, would go unnoticed.
func (v *votes) load() error {
	size, err := v.size()
	if err != nil {
		return err
	}
	if size != votesPages*votesPage*sectorSize {
		return fmt.Errorf("the file has %d bytes", size)
	}
	r := reader{file: v.file, sectors: votesPages * votesPage}
	var numbers [2]uint64
	var states [2]voteState
	for i := range uint32(2) {
		s, err := r.sector(i * votesPage)
		if err != nil {
			return err
		}
		n, _, err := verifySector(s, votesID, i*votesPage)
		if err != nil {
			return err
		}
		newest, values, err := readValues(s[sectorHead:])
		if err != nil {
			return fmt.Errorf("sector %d: %w", i*votesPage, err)
		}
		numbers[i], states[i] = n, voteStateOf(values)
		if n >= v.number {
			v.number, v.values = n, values
			v.newest.Store(newest)
		}
	}
	now, before := v.number%2, (v.number+1)%2
	if numbers[now] != v.number || numbers[before]+1 != v.number {
		return errVotes
	}
	if err := errors.Join(states[before].valid(), states[before].canFollow(states[now])); err != nil {
		return err
	}
	for i := range uint32(2) {
		at := (2 + i) * votesPage
		s, err := r.sector(at)
		if err != nil {
			return err
		}
		if batch, _, err := verifySector(s, votesID, at); err == nil {
			v.newest.Store(max(v.newest.Load(), batch))
		}
	}
	return nil
}

func readValues(content []byte) (newest uint64, values map[string][]byte, err error) {
	newest, content = binary.BigEndian.Uint64(content), content[8:]
	values = map[string][]byte{}
	for len(content) > 3 && content[0] > 0 {
		key, val := int(content[0]), int(binary.BigEndian.Uint16(content[1:]))
		if content = content[3:]; len(content) < key+val {
			return 0, nil, errContent
		}
		values[string(content[:key])] = slices.Clone(content[key : key+val])
		content = content[key+val:]
	}
	return newest, values, nil
}

// set stores a value. It is on disk when set returns, but for the term of a vote, which is
// stored with the candidate. What breaks the rules of voting is refused.
func (v *votes) set(key string, val []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key == VoteTermKey {
		v.voteTerm = slices.Clone(val)
		return nil
	}
	if was, ok := v.values[key]; ok && bytes.Equal(was, val) && key == TermKey && !v.unsure {
		return nil // raft stores its term anew at every start
	}
	values := maps.Clone(v.values)
	values[key] = slices.Clone(val)
	if key == CandidateKey && v.voteTerm != nil {
		values[VoteTermKey] = v.voteTerm
	}
	if err := voteStateOf(v.values).canReplace(voteStateOf(values)); err != nil {
		return fmt.Errorf("write %s: %w", v.path, err)
	}
	return v.put(values)
}

// put writes all values over the older of the two sectors.
func (v *votes) put(values map[string][]byte) error {
	content := binary.BigEndian.AppendUint64(nil, v.newest.Load())
	for key, val := range values {
		content = append(content, byte(len(key)))
		content = binary.BigEndian.AppendUint16(content, uint16(len(val)))
		content = append(content, key...)
		content = append(content, val...)
		if len(key) == 0 || len(key) > 255 || len(content) > sectorPayload {
			return fmt.Errorf("write %s: no space for %d bytes of %.40q", v.path, len(val), key)
		}
	}
	at := uint32((v.number + 1) % 2 * votesPage)
	v.unsure = true
	if err := v.write(pack(nil, content, votesID, at, v.number+1), int64(at)*sectorSize); err != nil {
		return fmt.Errorf("write %s: %w", v.path, err)
	}
	v.unsure = false
	v.number++
	v.values = values
	return nil
}

func (v *votes) get(key string) ([]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	val, ok := v.values[key]
	return val, ok
}

// stored records that a batch of the log is on disk. An error is ignored, because the next
// record includes this one. It does not wait for values that are being written.
func (v *votes) stored(batch uint64) {
	v.newest.Store(batch)
	at := uint32((2 + batch%2) * votesPage)
	v.buf = pack(v.buf[:0], []byte{0}, votesID, at, batch)
	_ = v.writeLazy(v.buf, int64(at)*sectorSize)
}
