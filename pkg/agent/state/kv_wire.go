package state

import (
	"encoding/binary"
	"math"
	"time"
)

// kvWire is KV as it is encoded: the most frequent command has short names.
type kvWire struct {
	Op      KVOp   `codec:"o"`
	Key     string `codec:"k"`
	Value   []byte `codec:"v,omitempty"`
	Flags   uint64 `codec:"f,omitempty"`
	Session string `codec:"s,omitempty"`
	Index   uint64 `codec:"i,omitempty"`

	TTL   time.Duration `codec:"t,omitempty"`
	Fence *Fence        `codec:"n,omitempty"`
}

// The bytes are those that msgpack makes and reads. A plain write is made and read
// here, without reflection, which takes less than a tenth of the time; what is
// not seen every day is left to msgpack.
const (
	packMap   = 0x80 // with the number of fields, up to 15
	packText  = 0xa0 // with the length, up to 31
	packText8 = 0xd9 // and two more, with 16 and 32 bits of length
	packBin8  = 0xc4 // likewise
	packUint8 = 0xcc // and three more, with 16, 32 and 64 bits

	mostFixText = 31
	mostFixUint = 0x7f
)

// appendPlain appends the encoding of a KV command, if it is a plain one.
func (w *kvWire) appendPlain(b []byte) (_ []byte, ok bool) {
	if w.TTL != 0 || w.Fence != nil {
		return b, false
	}
	at := len(b)
	b = append(b, packMap)
	field := func(name byte) {
		b[at]++
		b = append(b, packText+1, name)
	}
	if w.Flags != 0 { // in the order of the names
		field('f')
		b = appendUint(b, w.Flags)
	}
	if w.Index != 0 {
		field('i')
		b = appendUint(b, w.Index)
	}
	field('k')
	b = appendText(b, w.Key)
	field('o')
	b = appendText(b, string(w.Op))
	if w.Session != "" {
		field('s')
		b = appendText(b, w.Session)
	}
	if len(w.Value) > 0 {
		field('v')
		b = append(appendLength(b, packBin8, len(w.Value)), w.Value...)
	}
	return b, true
}

func appendText(b []byte, s string) []byte {
	if len(s) <= mostFixText {
		b = append(b, packText+byte(len(s)))
	} else {
		b = appendLength(b, packText8, len(s))
	}
	return append(b, s...)
}

// appendLength takes the kind for 8 bits; those for 16 and 32 follow it.
func appendLength(b []byte, kind byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, kind, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, kind+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, kind+2), uint32(n))
}

func appendUint(b []byte, n uint64) []byte {
	switch {
	case n <= mostFixUint:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, packUint8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, packUint8+1), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, packUint8+2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, packUint8+3), n)
}

// readPlain reads what appendPlain made; false: msgpack has to read it. Value is
// a copy: what is kept for long must not hold on to a whole message of raft's.
func (w *kvWire) readPlain(b []byte) (ok bool) {
	if len(b) == 0 || b[0]&0xf0 != packMap {
		return false
	}
	r := packReader{rest: b[1:], ok: true}
	for range b[0] & 0x0f {
		name := r.text()
		if len(name) != 1 {
			return false
		}
		switch name[0] {
		case 'f':
			w.Flags = r.uint()
		case 'i':
			w.Index = r.uint()
		case 'k':
			w.Key = string(r.text())
		case 'o':
			w.Op = KVOp(r.text())
		case 's':
			w.Session = string(r.text())
		case 'v':
			w.Value = append([]byte(nil), r.bin()...)
		default:
			return false
		}
	}
	return r.ok && len(r.rest) == 0
}

// packReader takes values off its rest. ok is false once one of them was not there
// or of another kind.
type packReader struct {
	rest []byte
	ok   bool
}

func (r *packReader) take(n uint64) []byte {
	if !r.ok || n > uint64(len(r.rest)) {
		r.ok = false
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// kind takes the first byte, 0xc1, which is never used, if there is none.
func (r *packReader) kind() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0xc1
}

// number takes one of 1 << log bytes.
func (r *packReader) number(log byte) uint64 {
	var n uint64
	for _, b := range r.take(1 << log) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *packReader) text() []byte {
	kind := r.kind()
	switch {
	case kind >= packText && kind <= packText+mostFixText:
		return r.take(uint64(kind - packText))
	case kind >= packText8 && kind <= packText8+2:
		return r.take(r.number(kind - packText8))
	}
	r.ok = false
	return nil
}

func (r *packReader) bin() []byte {
	kind := r.kind()
	if kind < packBin8 || kind > packBin8+2 {
		r.ok = false
		return nil
	}
	return r.take(r.number(kind - packBin8))
}

func (r *packReader) uint() uint64 {
	kind := r.kind()
	switch {
	case kind <= mostFixUint:
		return uint64(kind)
	case kind >= packUint8 && kind <= packUint8+3:
		return r.number(kind - packUint8)
	}
	r.ok = false
	return 0
}
