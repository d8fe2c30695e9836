package gossip

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The first byte of memberlist's messages.
const (
	msgPing     = 0
	msgIndirect = 1
	msgAck      = 2
	msgSuspect  = 3
	msgAlive    = 4
	msgDead     = 5
	msgPushPull = 6
	msgCompound = 7
	msgUser     = 8
	msgEncrypt  = 10
	msgNack     = 11
	msgCRC      = 12
)

const (
	crcHeader = 5
	// minEncrypted is the least an encrypted packet has: version, nonce, one byte,
	// tag.
	minEncrypted = 1 + 12 + 1 + 16
)

// filterPacket returns a copy of what memberlist may see of a packet, nil for
// nothing. A copy, because the packet lies in a buffer of 64 KB, and memberlist
// keeps thousands in its queue.
func (f *filterTransport) filterPacket(buf []byte, from netip.Addr, now time.Time) []byte {
	if len(buf) == 0 || len(buf) > maxPacket {
		return nil
	}
	member := f.members().addrs[from]
	if f.encrypted {
		// Only a holder of the key can say more than noise; what is not from a
		// member's address is tried at a bounded rate.
		if buf[0] > 1 || len(buf) < minEncrypted || !member && !f.unknown.allow(1, now) {
			return nil
		}
		return bytes.Clone(buf)
	}
	if buf[0] == msgCRC {
		if len(buf) <= crcHeader || crc32.ChecksumIEEE(buf[crcHeader:]) != binary.BigEndian.Uint32(buf[1:crcHeader]) {
			return nil
		}
		buf = buf[crcHeader:]
	}
	parts := split(buf)
	if len(parts) == 0 || !member && !f.unknown.allow(len(parts), now) {
		return nil
	}
	kept := parts[:0]
	for _, part := range parts {
		if wellFormed(part) && f.allowName(part, now) {
			kept = append(kept, part)
		}
	}
	return join(kept)
}

// split returns the messages in a packet: several in a compound one, which does
// not lie in another.
func split(buf []byte) [][]byte {
	if buf[0] != msgCompound {
		return [][]byte{buf}
	}
	if len(buf) < 2 || len(buf) < 2+2*int(buf[1]) {
		return nil
	}
	count := int(buf[1])
	lengths, rest := buf[2:2+2*count], buf[2+2*count:]
	var parts [][]byte
	for i := range count {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(rest) {
			return nil // cut off: memberlist would take the first ones
		}
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	return parts
}

func join(parts [][]byte) []byte {
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return bytes.Clone(parts[0])
	}
	out := []byte{msgCompound, byte(len(parts))}
	for _, part := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
	}
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// wellFormed says whether one message is of a kind that comes by packet. Compressed
// ones are refused, since a few bytes of them become many; we send none.
func wellFormed(msg []byte) bool {
	if len(msg) == 0 {
		return false
	}
	switch msg[0] {
	case msgPing, msgIndirect, msgAck, msgSuspect, msgAlive, msgDead, msgNack:
		return len(msg) > 1 && msg[1]&0xf0 == 0x80 // a map of a few fields
	case msgUser:
		return true
	}
	return false
}

// allowName says whether a message may pass by the member that it names: the
// announcement of a name that is new passes at a bounded rate. The source does not
// matter: one forged announcement makes the forger's address a member's.
func (f *filterTransport) allowName(msg []byte, now time.Time) bool {
	if msg[0] != msgAlive {
		return true
	}
	var alive struct{ Node string }
	if err := codec.NewDecoderBytes(msg[1:], new(codec.MsgpackHandle)).Decode(&alive); err != nil {
		return f.newNames.allow(1, now)
	}
	if f.members().knows(alive.Node) || f.passedNames[alive.Node] {
		return true
	}
	if !f.newNames.allow(1, now) {
		return false
	}
	if f.passedNames == nil || len(f.passedNames) >= MaxMembers {
		f.passedNames = map[string]bool{}
	}
	f.passedNames[alive.Node] = true
	return true
}
