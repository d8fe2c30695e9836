package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// FuzzOpen gives it any bytes in place of one of the files: they are refused as
// damaged, or what it opens can be read and written. mend makes the sums right, so
// that what is behind them is reached.
func FuzzOpen(f *testing.F) {
	m := &memory{held: map[string]*memoryFile{}}
	s, err := openFiles(m, minSegment, false)
	if err != nil {
		f.Fatal(err)
	}
	for i := uint64(1); i <= 4; i++ {
		if err := errors.Join(s.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 100)}), s.StoreCommitIndex(i)); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(s.DeleteRange(1, 1), s.DeleteRange(4, 4)); err != nil {
		f.Fatal(err)
	}
	good := contents(m)
	names, _ := m.names("")
	for i := range names {
		f.Add(uint8(i), true, good[names[i]])
		f.Add(uint8(i), false, good[names[i]][:1000])
	}
	f.Fuzz(func(t *testing.T, which uint8, mend bool, data []byte) {
		name := names[int(which)%len(names)]
		if mend {
			for at := 0; at+sectorSize <= len(data); at += sectorSize {
				sector := data[at:][:sectorSize]
				if !blank(sector) {
					binary.BigEndian.PutUint32(sector, sectorSum(sector, segmentNumber(name), uint32(at/sectorSize)))
				}
			}
		}
		m := holding(good)
		m.held[name] = &memoryFile{data: data}
		s, err := reopen(m)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLost) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		first, last := s.log.bounds()
		for i := first; i > 0 && i <= last; i++ {
			if err := s.GetLog(i, new(raft.Log)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.StoreLog(&raft.Log{Index: last + 1, Data: []byte(fmt.Sprint(last))}), s.DeleteRange(first, last)); err != nil {
			t.Fatal(err)
		}
	})
}
