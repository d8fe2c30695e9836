package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// An entry's Extensions on disk:
//
//	own extensions | commit index, 8 bytes | CRC-32C, 4 bytes | format, 1 byte
//
// A stable value on disk:
//
//	value | CRC-32C, 4 bytes | format, 1 byte
//
// Numbers are big-endian. The entry's sum covers its index, term, type, time,
// own extensions, data and the commit index; a value's covers its key too, so
// that one value cannot stand in for another.
const (
	entryFormat = 1
	valueFormat = 1

	sumSize   = 4
	entrySeal = 8 + sumSize + 1
	valueSeal = sumSize + 1
)

var (
	errNoSeal   = errors.New("it carries no checksum that this version knows")
	errMismatch = errors.New("checksum mismatch")
)

func sealEntry(log *raft.Log, commit uint64) []byte {
	out := make([]byte, 0, len(log.Extensions)+entrySeal)
	out = append(out, log.Extensions...)
	out = binary.BigEndian.AppendUint64(out, commit)
	out = binary.BigEndian.AppendUint32(out, entrySum(log, log.Extensions, commit))
	return append(out, entryFormat)
}

// unsealEntry verifies a stored entry and gives its own extensions, nil when
// there are none, as raft had them.
func unsealEntry(stored *raft.Log) (own []byte, commit uint64, err error) {
	n := len(stored.Extensions) - entrySeal
	if n < 0 || stored.Extensions[n+entrySeal-1] != entryFormat {
		return nil, 0, errNoSeal
	}
	own, tail := stored.Extensions[:n:n], stored.Extensions[n:]
	commit = binary.BigEndian.Uint64(tail)
	if entrySum(stored, own, commit) != binary.BigEndian.Uint32(tail[8:]) {
		return nil, 0, errMismatch
	}
	if n == 0 {
		own = nil
	}
	return own, commit, nil
}

func entrySum(log *raft.Log, own []byte, commit uint64) uint32 {
	var head [6*8 + 1]byte
	binary.BigEndian.PutUint64(head[0:], log.Index)
	binary.BigEndian.PutUint64(head[8:], log.Term)
	binary.BigEndian.PutUint64(head[16:], commit)
	binary.BigEndian.PutUint64(head[24:], uint64(log.AppendedAt.Unix()))
	binary.BigEndian.PutUint64(head[32:], uint64(log.AppendedAt.Nanosecond()))
	binary.BigEndian.PutUint64(head[40:], uint64(len(own)))
	head[48] = byte(log.Type)
	sum := newSum()
	sum.Write(head[:])
	sum.Write(own)
	sum.Write(log.Data)
	return sum.Sum32()
}

func sealValue(key, val []byte) []byte {
	out := make([]byte, 0, len(val)+valueSeal)
	out = append(out, val...)
	out = binary.BigEndian.AppendUint32(out, valueSum(key, val))
	return append(out, valueFormat)
}

func unsealValue(key, stored []byte) ([]byte, error) {
	n := len(stored) - valueSeal
	if n < 0 || stored[n+valueSeal-1] != valueFormat {
		return nil, errNoSeal
	}
	if valueSum(key, stored[:n]) != binary.BigEndian.Uint32(stored[n:]) {
		return nil, errMismatch
	}
	return stored[:n:n], nil
}

func valueSum(key, val []byte) uint32 {
	sum := newSum()
	sum.Write(putUint64(uint64(len(key))))
	sum.Write(key)
	sum.Write(val)
	return sum.Sum32()
}

// newSum starts a CRC-32C; the standard library builds its table once.
func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

func putUint64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func takeUint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%d bytes are not a number", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
