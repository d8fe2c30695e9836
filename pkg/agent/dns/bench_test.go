package dns

import (
	"fmt"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/logx"
)

// What an answer with many addresses costs, from the question to the bytes.
func BenchmarkAddresses(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &catalog{}
			for i := range n {
				c.addService(c.addNode(fmt.Sprint("n", i), "dc1", fmt.Sprint("10.0.0.", i), nil), "web", "", 80, "passing")
			}
			s := New(Config{Domain: "consul.", Datacenter: "dc1", Lookup: c, Logger: logx.Discard(), EnableTruncate: true})
			q := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA).SetEdns0(1232, false)
			for b.Loop() {
				if _, err := s.Handle(b.Context(), q, "udp", netip.Addr{}).Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
