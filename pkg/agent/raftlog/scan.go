package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// openLog reads and verifies the whole log, and removes what an interrupted write has
// left. atLeast is the newest batch that is known to have been stored. The package's
// comment says why nothing else is ever removed.
func openLog(dir files, segmentSize int64, atLeast uint64, stored func(uint64)) (_ *entryLog, err error) {
	l := &entryLog{dir: dir, segmentSize: max(segmentSize, minSegment), stored: stored, first: 1}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	numbers, err := segmentNumbers(dir)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		seg, err := makeSegment(dir, 1, 0, head{size: uint64(l.segmentSize), batch: 1, first: 1})
		if err != nil {
			return nil, err
		}
		l.segments = append(l.segments, seg)
		return l, nil
	}
	for i, number := range numbers {
		goesOn, err := l.scan(number, i == 0)
		switch {
		case err != nil:
			return nil, err
		case goesOn && i == len(numbers)-1:
			return nil, fmt.Errorf("raft log %s is gone: %w", dir.path(segmentName(number+1)), ErrLost)
		case !goesOn && i < len(numbers)-1:
			// The next file is not in use before this one ends.
			if err := dropUnused(dir, numbers[i+1:], l.segments[i]); err != nil {
				return nil, err
			}
		}
		if !goesOn {
			break
		}
	}
	return l, l.checkEnds(atLeast)
}

// segmentNumbers are those of the segments there are, without gaps.
func segmentNumbers(dir files) ([]uint32, error) {
	names, err := dir.names(segmentPrefix)
	if err != nil {
		return nil, fmt.Errorf("read the directory of raft's log: %w", err)
	}
	var numbers []uint32
	for _, name := range names {
		number := segmentNumber(name)
		if number == 0 {
			return nil, fmt.Errorf("%s is in the way: no file of raft's log has that name", dir.path(name))
		}
		if n := len(numbers); n > 0 && number != numbers[n-1]+1 {
			return nil, fmt.Errorf("raft log %s is gone: %w", dir.path(segmentName(numbers[n-1]+1)), ErrLost)
		}
		numbers = append(numbers, number)
	}
	return numbers, nil
}

// dropUnused removes the segment that was being made when the machine stopped. If it is
// not empty, the one before it has lost its end mark.
func dropUnused(dir files, numbers []uint32, before *segment) error {
	name := segmentName(numbers[0])
	if len(numbers) > 1 || !unused(dir, name) {
		return before.damaged(fmt.Errorf("it has no end, and the log goes on in %s", dir.path(name)))
	}
	return dir.remove(name)
}

// unused says whether a segment is empty but for its head. One that cannot be read
// counts as used.
func unused(dir files, name string) bool {
	f, err := dir.open(name)
	if err != nil {
		return false
	}
	defer f.close()
	size, err := f.size()
	if err != nil {
		return false
	}
	r := reader{file: f, sectors: uint32(size / sectorSize)}
	for at := uint32(1); at < r.sectors; at++ {
		if s, err := r.sector(at); err != nil || !blank(s) {
			return false
		}
	}
	return true
}

// scan reads the segment that follows those read before, and says whether the log goes
// on in the next one.
func (l *entryLog) scan(number uint32, oldest bool) (goesOn bool, err error) {
	name := segmentName(number)
	f, err := l.dir.open(name)
	if err != nil {
		return false, fmt.Errorf("open raft log: %w", err)
	}
	seg := &segment{file: f, number: number, path: l.dir.path(name), end: 1}
	l.segments = append(l.segments, seg)
	size, err := f.size()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", seg.path, err)
	}
	seg.sectors = uint32(size / sectorSize)
	r := &reader{file: f, sectors: seg.sectors}
	s, err := r.sector(0)
	if err != nil {
		return false, seg.damaged(err)
	}
	h, err := readHead(s, number)
	switch {
	case err != nil:
		return false, seg.damaged(err)
	case h.size != uint64(size):
		return false, seg.damaged(fmt.Errorf("it has %d bytes instead of %d", size, h.size))
	case oldest:
		// The entries that its head speaks of lie in older segments, which are removed
		// when those entries are deleted: until then they have no segment here.
		n := h.last + 1 - h.first
		if n > maxEntries {
			return false, seg.damaged(errContent)
		}
		l.batch, l.first, l.entries = h.batch-1, h.first, make([]location, n)
	case h.batch != l.batch+1 || h.first != l.first || h.last != l.last():
		return false, seg.damaged(errors.New("it does not go on where the one before it ends"))
	}
	for !goesOn {
		content, whole, err := r.batch(seg, l.batch+1)
		if err != nil {
			return false, seg.damaged(err)
		}
		if !whole {
			break
		}
		if goesOn, err = l.applyBatch(seg, content); err != nil {
			return false, seg.damaged(fmt.Errorf("batch at sector %d: %w", seg.end, err))
		}
		seg.end += sectorsFor(len(content))
		l.batch++
	}
	return goesOn, l.checkRest(seg, r, goesOn)
}

// maxEntries bounds the allocation for a damaged head. Raft keeps some 30,000 entries.
const maxEntries = 1 << 24

// applyBatch applies one batch to the index.
func (l *entryLog) applyBatch(seg *segment, content []byte) (end bool, err error) {
	at := uint64(seg.end)*sectorPayload + batchHead
	body := content[batchHead:]
	switch kind := content[0]; {
	case kind == batchEnd && len(body) == 0:
		return true, nil
	case kind == batchBounds && len(body) == 16:
		first, last := binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])
		if first < l.first || last > l.last() {
			return false, errContent
		}
		l.trim(first, last)
		return false, nil
	case kind == batchEntries && len(body) >= commitSize:
		commit := binary.BigEndian.Uint64(body)
		at, body = at+commitSize, body[commitSize:]
		for before := uint64(0); len(body) > 0; {
			index, size, err := entryAt(body)
			if err != nil || (before > 0 && index != before+1) {
				return false, errContent
			}
			l.add(index, location{seg, at, size, commit})
			before, at, body = index, at+uint64(size), body[size:]
		}
		return false, nil
	}
	return false, errContent
}

// checkRest checks what follows the last whole batch: nothing, or sectors of the one batch
// that was being written when the machine stopped, which are zeroed. Anything else was
// changed after it had been written.
func (l *entryLog) checkRest(seg *segment, r *reader, ended bool) error {
	torn := uint32(0)
	for at := seg.end; at < seg.sectors; at++ {
		s, err := r.sector(at)
		if err != nil {
			return seg.damaged(err)
		}
		if blank(s) {
			continue
		}
		batch, part, err := verifySector(s, seg.number, at)
		if err == nil && (ended || batch != l.batch+1 || part != at-seg.end) {
			err = fmt.Errorf("sector %d belongs to batch %d, and batch %d before it is not whole", at, batch, l.batch+1)
		}
		if err != nil {
			return seg.damaged(err)
		}
		torn = at + 1 - seg.end
	}
	if torn == 0 {
		return nil
	}
	return zeroSectors(seg, seg.end, torn)
}

// checkEnds makes sure that nothing is missing at either end, and removes old segments
// that an interrupted removal has left.
func (l *entryLog) checkEnds(atLeast uint64) error {
	newest := l.segments[len(l.segments)-1]
	if l.batch < atLeast {
		return newest.damaged(fmt.Errorf("batch %d was stored, and it ends with batch %d", atLeast, l.batch))
	}
	if len(l.entries) > 0 && l.entries[0].segment == nil {
		return fmt.Errorf("raft log %s is gone, with entry %d: %w", l.dir.path(segmentName(l.segments[0].number-1)), l.first, ErrLost)
	}
	return l.removeOld()
}

// reader reads the sectors of a file, nearly always in order.
type reader struct {
	file
	sectors uint32
	from    uint32 // of the first sector in window
	window  []byte
}

const windowSectors = 128

// sector reads one sector, which is valid until the next call.
func (r *reader) sector(at uint32) ([]byte, error) {
	if at >= r.sectors {
		return nil, fmt.Errorf("it ends before sector %d", at)
	}
	have := uint32(len(r.window) / sectorSize)
	if at < r.from || at >= r.from+have {
		n := min(windowSectors, r.sectors-at)
		if r.window == nil {
			r.window = make([]byte, int(min(windowSectors, r.sectors))*sectorSize)
		}
		r.from, r.window = at, r.window[:int(n)*sectorSize]
		if _, err := r.ReadAt(r.window, int64(at)*sectorSize); err != nil {
			r.window = nil
			return nil, err
		}
	}
	return r.window[int(at-r.from)*sectorSize:][:sectorSize], nil
}

// batch gives the content of the batch at the segment's end. whole is false if one of its
// sectors is blank.
func (r *reader) batch(seg *segment, number uint64) (content []byte, whole bool, err error) {
	size := batchHead
	for part := uint32(0); part < sectorsFor(size); part++ {
		at := seg.end + part
		if part == 0 && at >= r.sectors {
			return nil, false, nil
		}
		s, err := r.sector(at)
		if err != nil {
			return nil, false, err
		}
		if blank(s) {
			return nil, false, nil
		}
		has, place, err := verifySector(s, seg.number, at)
		if err == nil && (has != number || place != part) {
			err = fmt.Errorf("sector %d is part %d of batch %d instead of part %d of batch %d", at, place, has, part, number)
		}
		if err != nil {
			return nil, false, err
		}
		content = append(content, s[sectorHead:]...)
		if part == 0 {
			size = batchHead + int(binary.BigEndian.Uint32(content[1:]))
			if uint64(at)+uint64(sectorsFor(size)) > uint64(r.sectors) {
				return nil, false, fmt.Errorf("batch %d at sector %d is longer than the file", number, at)
			}
		}
	}
	return content[:size], true, nil
}
