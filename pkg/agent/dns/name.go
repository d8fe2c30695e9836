package dns

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"
)

// kind says what a name in our domain names.
type kind int

const (
	kindNone    kind = iota // nothing: the name does not exist
	kindService             // [tag.]name.service, or _name._tag
	kindNode                // name.node
	kindLeader              // name.leader: the node that holds an election
	kindAddr                // c0a80001.addr
	kindVirtual             // name.virtual: exists, with no record
)

// target is a parsed name in our domain.
type target struct {
	kind   kind
	name   string // of the service, node or election; the hex digits of an address
	tags   []string
	dc     string
	domain string
	srv    bool // of the form of RFC 2782 without ".service": SRV only
}

// parse parses a name in domain.
func (z *zone) parse(name, domain string) target {
	labels := splitLabels(name)
	labels = labels[:max(0, len(labels)-wire.CountLabel(domain))]
	t := target{domain: domain, dc: z.Datacenter}
	// The last label that is a kind decides: a node's name may contain others.
	for i := len(labels) - 1; i >= 0; i-- {
		k, known := kindOf(labels[i])
		if !known {
			continue
		}
		if !t.suffix(labels[i+1:]) {
			break // it may be part of a name of RFC 2782
		}
		t.subject(k, labels[:i])
		return t
	}
	if len(labels) >= 2 && isUnderscored(labels[0]) && isUnderscored(labels[1]) && t.suffix(labels[2:]) {
		t.subject(kindService, labels[:2])
		t.srv = true
	}
	return t
}

func kindOf(label string) (k kind, known bool) {
	switch strings.ToLower(label) {
	case "service":
		return kindService, true
	case "node":
		return kindNode, true
	case "leader":
		return kindLeader, true
	case "addr":
		return kindAddr, true
	case "virtual":
		return kindVirtual, true
	case "query", "connect", "ingress":
		return kindNone, true
	}
	return kindNone, false
}

// suffix parses the labels between the kind and the domain: none, a datacenter, or pairs
// of a value and its kind (dc, ns, ap).
func (t *target) suffix(labels []string) bool {
	if len(labels) == 1 {
		t.dc = strings.ToLower(labels[0])
		return true
	}
	for ; len(labels) >= 2; labels = labels[2:] {
		value := strings.ToLower(labels[0])
		switch strings.ToLower(labels[1]) {
		case "dc":
			t.dc = value
		case "ns", "ap": // only the default ones exist
			if value != "default" {
				return false
			}
		default:
			return false
		}
	}
	return len(labels) == 0
}

// subject parses the labels before the kind.
func (t *target) subject(k kind, labels []string) {
	if len(labels) == 0 {
		return
	}
	last := labels[len(labels)-1]
	switch k {
	case kindService:
		t.kind, t.name = kindService, last
		if len(labels) == 2 && isUnderscored(labels[0]) && isUnderscored(last) {
			t.name = labels[0][1:]
			if tag := last[1:]; !strings.EqualFold(tag, "tcp") {
				t.tags = []string{tag}
			}
			return
		}
		if len(labels) > 1 {
			t.tags = []string{strings.Join(labels[:len(labels)-1], ".")}
		}
	case kindNode, kindLeader:
		t.kind, t.name = k, strings.Join(labels, ".")
	case kindAddr, kindVirtual:
		if len(labels) == 1 {
			t.kind, t.name = k, last
		}
	}
}

func isUnderscored(label string) bool { return len(label) > 1 && label[0] == '_' }

// splitLabels returns the labels of a name, without the escapes of the presentation
// format (RFC 1035, 5.1).
func splitLabels(name string) []string {
	labels := wire.SplitDomainName(name)
	for i, label := range labels {
		if strings.Contains(label, `\`) {
			labels[i] = unescape(label)
		}
	}
	return labels
}

func unescape(label string) string {
	var out strings.Builder
	for i := 0; i < len(label); i++ {
		if label[i] != '\\' || i+1 == len(label) {
			out.WriteByte(label[i])
			continue
		}
		if i+3 < len(label) {
			if n, err := strconv.ParseUint(label[i+1:i+4], 10, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		out.WriteByte(label[i])
	}
	return out.String()
}

// nodeName is the domain name of a node; false if it has none that is valid.
func nodeName(node, dc, domain string) (string, bool) {
	name := escape(node) + ".node." + dc + "." + domain
	_, ok := wire.IsDomainName(name)
	return name, ok && node != ""
}

func serviceName(service, dc, domain string) (string, bool) {
	name := escape(service) + ".service." + dc + "." + domain
	_, ok := wire.IsDomainName(name)
	return name, ok && service != ""
}

func escape(name string) string { return strings.ReplaceAll(name, `\`, `\\`) }

// hexName is the name of an address: c0a80001.addr.dc1.consul.
func hexName(ip netip.Addr, dc, domain string) string {
	return hex.EncodeToString(ip.AsSlice()) + ".addr." + dc + "." + domain
}

func parseHex(s string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(raw) // 4 or 16 bytes
}

// parseArpa parses a name for reverse lookups; reverse says whether it is one, ok
// whether it has a whole address.
func parseArpa(name string) (ip netip.Addr, ok, reverse bool) {
	name = strings.ToLower(name)
	if wire.IsSubDomain("in-addr.arpa.", name) {
		labels := splitLabels(name)
		if len(labels) != 4+2 {
			return ip, false, true
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil, true
	}
	if !wire.IsSubDomain("ip6.arpa.", name) {
		return ip, false, false
	}
	labels := splitLabels(name)
	if len(labels) != 32+2 {
		return ip, false, true
	}
	var digits strings.Builder
	for i := 31; i >= 0; i-- {
		digits.WriteString(labels[i])
	}
	ip, ok = parseHex(digits.String())
	return ip, ok && ip.Is6(), true
}

// parseIP returns false for a host name.
func parseIP(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	return ip.Unmap().WithZone(""), err == nil
}
