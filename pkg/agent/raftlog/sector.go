package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
)

// The log and the votes file consist of sectors of 512 bytes, the unit that a disk
// writes either completely or not at all:
//
//	CRC-32C 4 | batch 8 | part 4 | 496 bytes of what is stored
//
// Numbers are big-endian. The checksum covers the rest of the sector, the file's number
// and the sector's place in the file, so that a sector at a wrong place is as invalid as
// one with a flipped bit. A sector that was never written is all zeros, which no written
// one is: batches count from 1.
const (
	sectorSize    = 512
	sectorHead    = 4 + 8 + 4
	sectorPayload = sectorSize - sectorHead
)

var errMismatch = errors.New("checksum mismatch")

// finishSector writes the head of a sector whose content is in place.
func finishSector(s []byte, file, at uint32, batch uint64, part uint32) {
	binary.BigEndian.PutUint64(s[4:], batch)
	binary.BigEndian.PutUint32(s[12:], part)
	binary.BigEndian.PutUint32(s, sectorSum(s, file, at))
}

// verifySector checks a sector and gives the batch that it belongs to.
func verifySector(s []byte, file, at uint32) (batch uint64, part uint32, err error) {
	if binary.BigEndian.Uint32(s) != sectorSum(s, file, at) {
		return 0, 0, fmt.Errorf("sector %d: %w", at, errMismatch)
	}
	return binary.BigEndian.Uint64(s[4:]), binary.BigEndian.Uint32(s[12:]), nil
}

func sectorSum(s []byte, file, at uint32) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // the library makes it once
	var place [8]byte
	binary.BigEndian.PutUint32(place[:], file)
	binary.BigEndian.PutUint32(place[4:], at)
	return crc32.Update(crc32.Checksum(s[4:], table), table, place[:])
}

// sectorsFor is how many sectors so many bytes take.
func sectorsFor(bytes int) uint32 { return uint32((bytes + sectorPayload - 1) / sectorPayload) }

// pack lays a batch out in sectors, appended to out, the first of them at the
// given place of the file.
func pack(out, content []byte, file, at uint32, batch uint64) []byte {
	for part := uint32(0); part < sectorsFor(len(content)); part++ {
		from := len(out)
		piece := content[int(part)*sectorPayload:]
		piece = piece[:min(len(piece), sectorPayload)]
		out = append(out, make([]byte, sectorHead)...)
		out = append(out, piece...)
		out = append(out, make([]byte, sectorPayload-len(piece))...)
		finishSector(out[from:], file, at+part, batch, part)
	}
	return out
}

// blank says whether a sector is all zeros.
func blank(s []byte) bool {
	for _, b := range s {
		if b != 0 {
			return false
		}
	}
	return true
}

// newSum starts a CRC-32C.
func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }
