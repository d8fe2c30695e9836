package raftlog

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// A batch is the content of one write: a kind (1 byte), its size (4), and then
//
//	entries   commit index 8; then entries
//	bounds    first index 8, last index 8: the entries that the log has from now on
//	end       nothing: the log continues in the next file
//
// and an entry is
//
//	index 8 | term 8 | type 1 | seconds 8 | nanoseconds 4 | extensions 4 | data 4
//	bytes of the extensions | bytes of the data
const (
	batchEntries = 1
	batchBounds  = 2
	batchEnd     = 3

	batchHead  = 1 + 4
	commitSize = 8
	entryHead  = 8 + 8 + 1 + 8 + 4 + 4 + 4
)

var errContent = errors.New("its content is invalid")

func entrySize(log *raft.Log) int { return entryHead + len(log.Extensions) + len(log.Data) }

func appendEntry(b []byte, log *raft.Log) []byte {
	b = binary.BigEndian.AppendUint64(b, log.Index)
	b = binary.BigEndian.AppendUint64(b, log.Term)
	b = append(b, byte(log.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(log.AppendedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(log.AppendedAt.Nanosecond()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(log.Extensions)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(log.Data)))
	b = append(b, log.Extensions...)
	return append(b, log.Data...)
}

// entryAt gives the index and size of the entry at the beginning of b.
func entryAt(b []byte) (index uint64, size int, err error) {
	if len(b) < entryHead {
		return 0, 0, errContent
	}
	n := uint64(binary.BigEndian.Uint32(b[29:])) + uint64(binary.BigEndian.Uint32(b[33:])) + entryHead
	if n > uint64(len(b)) {
		return 0, 0, errContent
	}
	return binary.BigEndian.Uint64(b), int(n), nil
}

// readEntry decodes an entry whose size entryAt gave. The entry keeps b.
func readEntry(b []byte, log *raft.Log) {
	extensions := int(binary.BigEndian.Uint32(b[29:]))
	*log = raft.Log{
		Index: binary.BigEndian.Uint64(b),
		Term:  binary.BigEndian.Uint64(b[8:]),
		Type:  raft.LogType(b[16]),
	}
	seconds, nanos := int64(binary.BigEndian.Uint64(b[17:])), int64(binary.BigEndian.Uint32(b[25:]))
	log.AppendedAt = time.Unix(seconds, nanos)
	body := b[entryHead:]
	if extensions > 0 { // nil when there are none, as raft had them
		log.Extensions = body[:extensions:extensions]
	}
	if body = body[extensions:]; len(body) > 0 {
		log.Data = body[:len(body):len(body)]
	}
}
