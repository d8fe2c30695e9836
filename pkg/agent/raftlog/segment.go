package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A segment is one file of the log, whose size is fixed when it is made. Its first sector
// is its head; batches follow, each from the start of a sector:
//
//	format 1 | size of the file 8 | number of the next batch 8 | first index 8 | last index 8
//
// where the indexes are those of the log when the segment was made.
const (
	segmentPrefix = "log-"
	segmentFormat = 1

	// minSegment holds a head, a batch of one sector and the end mark.
	minSegment = 3 * sectorSize
)

// segment is one open file. Only a write changes end.
type segment struct {
	file
	number  uint32
	path    string
	sectors uint32
	end     uint32 // after the last sector of a batch
}

func segmentName(number uint32) string { return fmt.Sprintf("%s%08d", segmentPrefix, number) }

// segmentNumber is the number in a segment's name; 0 for another name.
func segmentNumber(name string) uint32 {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, segmentPrefix), 10, 32)
	if err != nil || segmentName(uint32(n)) != name {
		return 0
	}
	return uint32(n)
}

// head is the content of a segment's first sector.
type head struct {
	size        uint64
	batch       uint64
	first, last uint64
}

func (h head) sector(number uint32) []byte {
	content := binary.BigEndian.AppendUint64([]byte{segmentFormat}, h.size)
	content = binary.BigEndian.AppendUint64(content, h.batch)
	content = binary.BigEndian.AppendUint64(content, h.first)
	content = binary.BigEndian.AppendUint64(content, h.last)
	return pack(nil, content, number, 0, h.batch)
}

func readHead(s []byte, number uint32) (head, error) {
	if _, _, err := verifySector(s, number, 0); err != nil {
		return head{}, err
	}
	content := s[sectorHead:]
	if content[0] != segmentFormat {
		return head{}, fmt.Errorf("its head has format %d, this version knows %d", content[0], segmentFormat)
	}
	return head{
		size:  binary.BigEndian.Uint64(content[1:]),
		batch: binary.BigEndian.Uint64(content[9:]),
		first: binary.BigEndian.Uint64(content[17:]),
		last:  binary.BigEndian.Uint64(content[25:]),
	}, nil
}

// makeSegment makes a segment with space for at least minSectors sectors of batches.
func makeSegment(dir files, number uint32, minSectors uint32, h head) (*segment, error) {
	sectors := max(uint32(h.size/sectorSize), minSectors+2) // its head and the end mark
	h.size = uint64(sectors) * sectorSize
	name := segmentName(number)
	f, err := dir.create(name, int64(h.size))
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", dir.path(name), err)
	}
	if err := f.write(h.sector(number), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", dir.path(name), err), f.close())
	}
	return &segment{file: f, number: number, path: dir.path(name), sectors: sectors, end: 1}, nil
}

// read gives bytes of the segment's content, and verifies each sector it takes
// them from. at counts the bytes of content from the start of the file.
func (s *segment) read(at uint64, size int) ([]byte, error) {
	first := uint32(at / sectorPayload)
	skip := int(at % sectorPayload)
	raw := make([]byte, int(sectorsFor(skip+size))*sectorSize)
	if _, err := s.ReadAt(raw, int64(first)*sectorSize); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path, err)
	}
	content := raw[:0] // it is shorter than raw, and written only where raw was read
	for i := range len(raw) / sectorSize {
		sector := raw[i*sectorSize:][:sectorSize]
		if _, _, err := verifySector(sector, s.number, first+uint32(i)); err != nil {
			return nil, s.damaged(err)
		}
		content = append(content, sector[sectorHead:]...)
	}
	return content[skip:][:size], nil
}

func (s *segment) damaged(why error) error {
	return fmt.Errorf("raft log %s is %w: %w", s.path, ErrDamaged, why)
}
