package dns

import (
	"slices"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
)

// nodeAddresses returns the addresses of a node for a question of this type.
func (z *zone) nodeAddresses(node *api.Node, dc string, qtype uint16) []string {
	return z.choose(node.Address, func(tag string) string { return node.TaggedAddresses[tag] }, dc, qtype)
}

// addresses returns the addresses of an instance: its own, or else its node's. own says
// which.
func (z *zone) addresses(in *api.CheckServiceNode, dc string, qtype uint16) (list []string, own bool) {
	tagged := func(tag string) string { return in.Service.TaggedAddresses[tag].Address }
	if list = z.choose(in.Service.Address, tagged, dc, qtype); len(list) > 0 || in.Service.Address != "" {
		return list, true
	}
	return z.nodeAddresses(in.Node, dc, qtype), false
}

// choose returns the addresses that answer a question. Of each family that was asked for
// it is the tagged one (lan_ipv4, lan_ipv6; of another datacenter wan_ipv4, wan_ipv6 and
// wan), or else the plain one if it is of that family. IPv6 comes first: the reference
// returns only that one. A host name is returned if there is no address.
func (z *zone) choose(plain string, tagged func(string) string, dc string, qtype uint16) []string {
	network := "lan"
	if z.isRemote(dc) {
		network = "wan"
		if wan := tagged("wan"); wan != "" {
			plain = wan
		}
	}
	var out []string
	for _, family := range []struct {
		tag  string
		is4  bool
		with []uint16
	}{
		{network + "_ipv6", false, []uint16{wire.TypeAAAA, wire.TypeANY, wire.TypeSRV, wire.TypeTXT}},
		{network + "_ipv4", true, []uint16{wire.TypeA, wire.TypeANY, wire.TypeSRV, wire.TypeTXT}},
	} {
		if !slices.Contains(family.with, qtype) {
			continue
		}
		for _, address := range []string{tagged(family.tag), plain} {
			if ip, ok := parseIP(address); ok && ip.Is4() == family.is4 {
				out = append(out, address)
				break
			}
		}
	}
	if _, isIP := parseIP(plain); len(out) == 0 && !isIP && hostName(plain) != "" {
		return []string{plain}
	}
	return out
}
