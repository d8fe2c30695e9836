package dns

import (
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// TestTaggedAddresses: A and AAAA were tried at a Consul 1.8.7. To ANY, and for the
// node that an SRV record names, that gives one family; here it is both.
func TestTaggedAddresses(t *testing.T) {
	c := &catalog{}
	add := func(name, address string, tags map[string]string, own string, ownTags map[string]api.ServiceAddress) {
		n := c.addNode(name, "dc1", address, nil)
		n.TaggedAddresses = tags
		c.addService(n, "s"+name, own, 80, "passing").Service.TaggedAddresses = ownTags
	}
	add("na", "10.0.0.1", map[string]string{"lan_ipv6": "fd00::7", "lan_ipv4": "10.0.0.9", "wan_ipv6": "fd00::99", "wan": "9.9.9.9"}, "", nil)
	add("nb", "10.0.0.2", map[string]string{"lan_ipv6": "fd00::8"}, "10.1.0.2",
		map[string]api.ServiceAddress{"lan_ipv6": {Address: "fd00::88", Port: 81}, "lan_ipv4": {Address: "10.1.0.22", Port: 82}})
	add("nc", "fd00::1", map[string]string{"lan_ipv4": "10.0.0.3"}, "", nil)
	add("nd", "host.example.com", map[string]string{"lan_ipv4": "10.0.0.4"}, "", nil)
	add("ne", "10.0.0.5", map[string]string{"lan_ipv6": "fd00::5"}, "10.1.0.5", nil)
	add("nf", "10.0.0.6", map[string]string{"wan_ipv6": "fd00::6"}, "", nil)
	add("ng", "10.0.0.7", map[string]string{"lan_ipv6": "nonsense"}, "", nil)
	far := c.addNode("far", "dc2", "10.2.0.1", nil)
	far.TaggedAddresses = map[string]string{"wan": "9.9.9.9", "wan_ipv6": "fd00::99", "lan_ipv6": "fd00::1"}

	s := New(Config{Domain: "consul.", Datacenter: "dc1", Lookup: c, Logger: logx.Discard(), TranslateWAN: true})
	for question, want := range map[string]string{
		"na.node A": "10.0.0.9", "na.node AAAA": "fd00::7", "na.node ANY": "10.0.0.9 fd00::7",
		"sna.service A": "10.0.0.9", "sna.service AAAA": "fd00::7", "sna.service ANY": "10.0.0.9 fd00::7", "sna.service SRV": "+10.0.0.9 +fd00::7 na.node.dc1.consul.",
		"nb.node A": "10.0.0.2", "nb.node AAAA": "fd00::8", "nb.node ANY": "10.0.0.2 fd00::8",
		"snb.service A": "10.1.0.22", "snb.service AAAA": "fd00::88", "snb.service ANY": "10.1.0.22 fd00::88",
		"snb.service SRV": "+fd00::88 fd000000000000000000000000000088.addr.dc1.consul.",
		"nc.node A":       "10.0.0.3", "nc.node AAAA": "fd00::1", "snc.service A": "10.0.0.3", "snc.service AAAA": "fd00::1",
		"nd.node A": "10.0.0.4", "nd.node AAAA": "host.example.com.", "nd.node ANY": "10.0.0.4", "snd.service AAAA": "host.example.com.",
		"ne.node A": "10.0.0.5", "ne.node AAAA": "fd00::5", "sne.service A": "10.1.0.5", "sne.service AAAA": "",
		"sne.service SRV": "+10.1.0.5 0a010005.addr.dc1.consul.",
		"nf.node A":       "10.0.0.6", "nf.node AAAA": "", "nf.node ANY": "10.0.0.6", "snf.service AAAA": "", "snf.service SRV": "+10.0.0.6 nf.node.dc1.consul.",
		"ng.node AAAA": "", "ng.node A": "10.0.0.7",
		"far.node.dc2 A": "9.9.9.9", "far.node.dc2 AAAA": "fd00::99",
	} {
		name, qtype, _ := strings.Cut(question, " ")
		if got := data(ask(t, s, name+".consul.", qtype, "tcp")); got != want {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
}

// data is what the records of an answer hold, sorted; + marks additional ones.
func data(m *wire.Msg) string {
	var out []string
	for mark, records := range map[string][]wire.RR{"": m.Answer, "+": m.Extra} {
		for _, rr := range records {
			switch rr := rr.(type) {
			case *wire.A:
				out = append(out, mark+rr.A.String())
			case *wire.AAAA:
				out = append(out, mark+rr.AAAA.String())
			case *wire.CNAME:
				out = append(out, mark+rr.Target)
			case *wire.SRV:
				out = append(out, mark+rr.Target)
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
