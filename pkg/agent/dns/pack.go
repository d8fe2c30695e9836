package dns

import (
	"encoding/binary"

	wire "github.com/miekg/dns"
)

// Most answers are the addresses of one name, the one that was asked for. Their
// form is known: a pointer to the question's name and a head of fixed size. To
// measure and write them needs no table of names, which is most of what the
// library's way costs.
const (
	questionAt  = 12     // the head of a message comes before it
	pointer     = 0xC000 // and where to
	addressHead = 12     // pointer, type, class, TTL, length
)

// areAddresses tells whether all answers are addresses of the question's name.
func areAddresses(m *wire.Msg) bool {
	if !m.Compress || len(m.Question) != 1 || len(m.Answer) == 0 || len(m.Question[0].Name) < 2 {
		return false
	}
	for _, rr := range m.Answer {
		if addressOf(rr) == nil || rr.Header().Name != m.Question[0].Name {
			return false
		}
	}
	return true
}

// addressOf is the address as it is written, nil if the record holds none.
func addressOf(rr wire.RR) []byte {
	switch rr := rr.(type) {
	case *wire.A:
		if len(rr.A) == 4 {
			return rr.A
		}
	case *wire.AAAA:
		if len(rr.AAAA) == 16 {
			return rr.AAAA
		}
	}
	return nil
}

// length is how long the message will be.
func length(m *wire.Msg) int {
	if !areAddresses(m) {
		return m.Len()
	}
	rest := *m
	rest.Answer = nil
	n := rest.Len()
	for _, rr := range m.Answer {
		n += addressHead + len(addressOf(rr))
	}
	return n
}

// pack writes a message.
func pack(m *wire.Msg) ([]byte, error) {
	if !areAddresses(m) || len(m.Ns) > 0 || len(m.Extra) > 1 || len(m.Extra) == 1 && m.IsEdns0() == nil {
		return m.Pack()
	}
	rest := *m
	rest.Answer = nil
	data, err := rest.PackBuffer(make([]byte, length(m)+1))
	if err != nil {
		return nil, err
	}
	tail := 0
	if len(m.Extra) == 1 {
		tail = wire.Len(m.Extra[0])
	}
	head, opt := data[:len(data)-tail], append([]byte(nil), data[len(data)-tail:]...)
	for _, rr := range m.Answer {
		h, ip := rr.Header(), addressOf(rr)
		head = binary.BigEndian.AppendUint16(head, pointer|questionAt)
		head = binary.BigEndian.AppendUint16(head, h.Rrtype)
		head = binary.BigEndian.AppendUint16(head, h.Class)
		head = binary.BigEndian.AppendUint32(head, h.Ttl)
		head = binary.BigEndian.AppendUint16(head, uint16(len(ip)))
		head = append(head, ip...)
	}
	binary.BigEndian.PutUint16(head[6:], uint16(len(m.Answer)))
	return append(head, opt...), nil
}
