package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/muster-dev/muster/pkg/api"
)

// The snapshot format. Every version stays readable: testdata has one of each.
//
//	magic    "muster state\n", then the format version as one byte
//	records  type byte, length as uvarint, msgpack; the head first, then the
//	         rows of each table in order of their keys
//	end      type byte 0xff, CRC-32C (big endian) of every byte before it
//
// Equal states give equal bytes.
const (
	snapshotMagic   = "muster state\n"
	snapshotVersion = 3 // 2 added sessions, locks, expiries, durable events and jobs; 3 the cluster id

	recordHead    = 1  // root
	recordKV      = 2  // api.KVPair
	recordNode    = 3  // api.Node
	recordService = 4  // instance
	recordCheck   = 5  // api.HealthCheck
	recordIndex   = 6  // changeIndex
	recordSession = 7  // api.Session
	recordLock    = 8  // lock
	recordDelay   = 9  // lockDelay
	recordExpiry  = 10 // expiry
	recordEvent   = 11 // event
	recordAck     = 12 // eventAck
	recordJob     = 20 // job
	recordTarget  = 21 // jobTarget
	recordEnd     = 0xff
)

// head is the first record.
type head struct {
	Index   uint64
	KVIndex uint64
	Floors  []uint64 // by topic

	ClusterID string `codec:",omitempty"`
}

// version is the oldest format version that can represent the snapshot, so that older
// servers can read those of a cluster without an id.
func (sn *Snapshot) version() byte {
	if sn.root.ClusterID == "" {
		return snapshotVersion - 1
	}
	return snapshotVersion
}

// Write streams the snapshot to w.
func (sn *Snapshot) Write(w io.Writer) error {
	out := &recordWriter{w: bufio.NewWriterSize(w, 64<<10), sum: newSum()}
	out.raw([]byte(snapshotMagic + string([]byte{sn.version()})))
	out.record(recordHead, &head{sn.root.Index, sn.root.KVIndex, sn.root.Floors[:], sn.root.ClusterID})
	txn := sn.db.Txn(false)
	for _, t := range []struct {
		kind  byte
		table string
	}{
		{recordKV, tableKV}, {recordNode, tableNodes}, {recordService, tableServices},
		{recordCheck, tableChecks}, {recordIndex, tableIndexes}, {recordSession, tableSessions},
		{recordLock, tableLocks}, {recordDelay, tableDelays}, {recordExpiry, tableExpiries},
		{recordEvent, tableEvents}, {recordAck, tableEventAcks},
		{recordJob, tableJobs}, {recordTarget, tableJobTargets},
	} {
		rows, err := txn.Get(t.table, "id_prefix", []byte(nil))
		must(err)
		for row := rows.Next(); row != nil && out.err == nil; row = rows.Next() {
			if n, ok := row.(*nodeRow); ok {
				row = n.Node
			}
			out.record(t.kind, row)
		}
	}
	out.raw(binary.BigEndian.AppendUint32([]byte{recordEnd}, out.sum.Sum32()))
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return fmt.Errorf("write state snapshot at index %d: %w", sn.root.Index, out.err)
	}
	return nil
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// recordWriter writes records and their checksum; it keeps the first error.
type recordWriter struct {
	w   *bufio.Writer
	sum hash.Hash32
	err error
}

func (o *recordWriter) raw(data []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(data)
		o.sum.Write(data)
	}
}

func (o *recordWriter) record(kind byte, v any) {
	body, err := pack(nil, v)
	if err != nil && o.err == nil {
		o.err = err
	}
	o.raw(binary.AppendUvarint([]byte{kind}, uint64(len(body))))
	o.raw(body)
}

// Restore replaces the state by the snapshot in r. An error means that nothing has
// changed.
func (s *Store) Restore(r io.Reader) error {
	db := newDB()
	x := &tx{reader: reader{t: db.Txn(true), root: root{maxTombstones: s.root.maxTombstones, changes: changeLog{limit: s.root.changes.limit}}}}
	if err := x.readSnapshot(r); err != nil {
		return fmt.Errorf("read state snapshot: %w", err)
	}
	x.t.Commit()
	s.db, s.root, s.unreadable = db, x.root, nil
	return nil
}

func (x *tx) readSnapshot(r io.Reader) error {
	in := &recordReader{r: bufio.NewReaderSize(r, 64<<10), sum: newSum()}
	start := make([]byte, len(snapshotMagic)+1)
	if err := in.full(start); err != nil {
		return err
	}
	if string(start[:len(snapshotMagic)]) != snapshotMagic {
		return errors.New("this is no muster state snapshot")
	}
	if v := start[len(snapshotMagic)]; v == 0 || v > snapshotVersion {
		return fmt.Errorf("format version %d is not known here (newest is %d): %w", v, snapshotVersion, ErrNewer)
	} else {
		x.level = snapshotLevel(v)
	}
	for n := 0; ; n++ {
		sum := in.sum.Sum32()
		kind, err := in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if kind == recordEnd && n > 0 {
			return in.end(sum)
		}
		body, err := in.body()
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		if (kind == recordHead) != (n == 0) {
			return fmt.Errorf("record %d: type %d is out of place", n, kind)
		}
		if err := x.restoreRecord(kind, body); err != nil {
			return fmt.Errorf("record %d of type %d: %w", n, kind, err)
		}
	}
}

func (x *tx) restoreRecord(kind byte, body []byte) error {
	switch kind {
	case recordHead:
		var h head
		if err := unpack(body, &h); err != nil {
			return err
		}
		if len(h.Floors) > topicCount {
			return fmt.Errorf("it has topics that are not known here: %w", ErrNewer)
		}
		x.Index, x.KVIndex, x.ClusterID = h.Index, h.KVIndex, h.ClusterID
		x.changes.floor = h.Index
		copy(x.Floors[:], h.Floors)
	case recordKV:
		e, err := unpackRow[api.KVPair](body)
		if err != nil {
			return err
		}
		x.stats.Keys++
		x.insert(tableKV, e)
	case recordNode:
		n, err := unpackRow[api.Node](body)
		if err != nil {
			return err
		}
		x.stats.Nodes++
		x.insert(tableNodes, &nodeRow{Node: n})
	case recordService:
		i, err := unpackRow[instance](body)
		if err != nil {
			return err
		}
		if i.Service == nil || x.node(i.Node) == nil {
			return errors.New("its service or its node is missing")
		}
		x.insertInstance(nil, i)
	case recordCheck:
		c, err := unpackRow[api.HealthCheck](body)
		if err != nil {
			return err
		}
		if x.node(c.Node) == nil || !x.linkCheck(nil, c) {
			return errors.New("its node or its service is missing")
		}
		x.stats.Checks++
		x.insert(tableChecks, c)
	case recordIndex:
		m, err := unpackRow[changeIndex](body)
		if err != nil {
			return err
		}
		if m.Topic >= topicCount {
			return fmt.Errorf("topic %d is not known here: %w", m.Topic, ErrNewer)
		}
		x.putIndex(nil, m)
	case recordEvent, recordAck:
		return x.restoreEvents(kind, body)
	case recordJob, recordTarget:
		return x.restoreJobs(kind, body)
	default:
		return x.restoreLocks(kind, body)
	}
	return nil
}

// restoreLocks restores sessions, locks, lock-delays and expiries.
func (x *tx) restoreLocks(kind byte, body []byte) error {
	switch kind {
	case recordSession:
		x.stats.Sessions++
		return restoreRow(x, tableSessions, body, func(*api.Session) bool { return true })
	case recordLock:
		return restoreRow(x, tableLocks, body, func(l *lock) bool { return x.kvEntry(l.Key) != nil && x.session(l.Session) != nil })
	case recordDelay:
		return restoreRow(x, tableDelays, body, func(*lockDelay) bool { return true })
	case recordExpiry:
		return restoreRow(x, tableExpiries, body, func(e *expiry) bool { return x.kvEntry(e.Key) != nil })
	}
	return fmt.Errorf("this type is not known here: %w", ErrNewer)
}

// restoreRow restores a row if valid says that the rows it belongs to exist.
func restoreRow[T any](x *tx, table string, body []byte, valid func(*T) bool) error {
	row, err := unpackRow[T](body)
	if err != nil {
		return err
	}
	if !valid(row) {
		return errors.New("what it belongs to is missing")
	}
	x.insert(table, row)
	return nil
}

func unpackRow[T any](body []byte) (*T, error) {
	row := new(T)
	return row, unpack(body, row)
}

// recordReader reads records and their checksum.
type recordReader struct {
	r   *bufio.Reader
	sum hash.Hash32
}

func (in *recordReader) full(p []byte) error {
	_, err := io.ReadFull(in.r, p)
	in.sum.Write(p)
	return noEOF(err)
}

// ReadByte makes it an io.ByteReader for binary.ReadUvarint.
func (in *recordReader) ReadByte() (byte, error) {
	b, err := in.r.ReadByte()
	if err == nil {
		in.sum.Write([]byte{b})
	}
	return b, err
}

// body reads a length and as many bytes. It allocates no more than there are bytes.
func (in *recordReader) body() ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, noEOF(err)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, in.r, int64(min(n, 1<<62))); err != nil {
		return nil, noEOF(err)
	}
	in.sum.Write(buf.Bytes())
	return buf.Bytes(), nil
}

// end reads the checksum. Data after it is an error.
func (in *recordReader) end(sum uint32) error {
	var want [4]byte
	if err := in.full(want[:]); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint32(want[:]); got != sum {
		return fmt.Errorf("checksum is %08x, but the content gives %08x: the file is damaged", got, sum)
	}
	if _, err := in.r.ReadByte(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// noEOF turns an unexpected end of input into an error for people.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("it ends too early: the file is damaged")
	}
	return err
}
