package dns

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/logx"
)

// What is written without the library is what the library would have written.
func TestPackAsTheLibrary(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	ours := 0
	for range 5000 {
		name := []string{"web.service.consul.", `a\.b\032c.Service.consul.`, "x.", "."}[rnd.IntN(4)]
		m := new(wire.Msg).SetQuestion(name, wire.TypeANY)
		m.Compress, m.Truncated, m.Authoritative = rnd.IntN(4) > 0, rnd.IntN(2) == 0, true
		for range rnd.IntN(5) * rnd.IntN(20) {
			ip := make(net.IP, []int{4, 16}[rnd.IntN(2)])
			for i := range ip {
				ip[i] = byte(rnd.Int())
			}
			if len(ip) == 4 {
				m.Answer = append(m.Answer, &wire.A{Hdr: header(name, wire.TypeA, rnd.Uint32()), A: ip})
			} else {
				m.Answer = append(m.Answer, &wire.AAAA{Hdr: header(name, wire.TypeAAAA, 1), AAAA: ip})
			}
		}
		switch rnd.IntN(12) {
		case 0:
			m.Answer = append(m.Answer, &wire.A{Hdr: header("db.service.consul.", wire.TypeA, 0), A: net.IP{1, 2, 3, 4}})
		case 1:
			m.Answer = append(m.Answer, &wire.TXT{Hdr: header(name, wire.TypeTXT, 0), Txt: []string{"k=v"}})
		case 2:
			m.Ns = []wire.RR{&wire.NS{Hdr: header("consul.", wire.TypeNS, 0), Ns: "s1.node.consul."}}
		case 3:
			m.Extra = []wire.RR{&wire.TXT{Hdr: header(name, wire.TypeTXT, 0), Txt: []string{"k=v"}}}
		case 4, 5, 6:
			opt := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}}
			opt.SetUDPSize(1232)
			opt.Option = []wire.EDNS0{&wire.EDNS0_SUBNET{Code: wire.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IP{10, 0, 0, 0}}}
			m.Extra = append(m.Extra, opt)
		}
		if areAddresses(m) {
			ours++
		}
		want, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		got, err := pack(m)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v\ngot  %x, %v\nwant %x", m, got, err, want)
		}
		if length(m) != m.Len() {
			t.Fatalf("%v\nlength %d, want %d", m, length(m), m.Len())
		}
	}
	if ours < 1000 {
		t.Errorf("only %d messages of the kind that is meant", ours)
	}
}

// What an answer with many addresses costs, from the question to the bytes.
func BenchmarkAddresses(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &catalog{}
			for i := range n {
				c.addService(c.addNode(fmt.Sprint("n", i), "dc1", fmt.Sprint("10.0.0.", i), nil), "web", "", 80, "passing")
			}
			s := New(Config{Datacenter: "dc1", Lookup: c, Logger: logx.Discard(), EnableTruncate: true})
			q := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA).SetEdns0(1232, false)
			for b.Loop() {
				if _, err := pack(s.Handle(b.Context(), q, "udp", netip.Addr{})); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
