package dns

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
)

// zone is a Config, prepared for answers. It is immutable.
type zone struct {
	Config
	domains []string // in lower case, the longest first
	ttls    []serviceTTL
}

type serviceTTL struct {
	name   string
	prefix bool
	ttl    uint32
}

func newZone(cfg Config) *zone {
	z := &zone{Config: cfg}
	z.Domain = strings.ToLower(wire.Fqdn(cfg.Domain))
	z.Datacenter = strings.ToLower(cfg.Datacenter)
	z.domains = []string{z.Domain}
	if cfg.AltDomain != "" {
		z.domains = append(z.domains, strings.ToLower(wire.Fqdn(cfg.AltDomain)))
	}
	slices.SortStableFunc(z.domains, func(a, b string) int { return wire.CountLabel(b) - wire.CountLabel(a) })
	for name, ttl := range cfg.ServiceTTL {
		name, prefix := strings.CutSuffix(strings.ToLower(name), "*")
		z.ttls = append(z.ttls, serviceTTL{name, prefix, seconds(ttl)})
	}
	// The first match is used: an exact name, or else the longest prefix.
	slices.SortFunc(z.ttls, func(a, b serviceTTL) int {
		if a.prefix != b.prefix {
			return map[bool]int{false: -1, true: 1}[a.prefix]
		}
		return len(b.name) - len(a.name)
	})
	return z
}

func seconds(d time.Duration) uint32 { return uint32(max(0, min(d/time.Second, 1<<31-1))) }

// domainOf returns which of our domains a name is in, "" if it is in none.
func (z *zone) domainOf(name string) string {
	for _, domain := range z.domains {
		if wire.IsSubDomain(domain, strings.ToLower(name)) {
			return domain
		}
	}
	return ""
}

func (z *zone) serviceTTL(name string) uint32 {
	name = strings.ToLower(name)
	for _, t := range z.ttls {
		if t.name == name && !t.prefix || t.prefix && strings.HasPrefix(name, t.name) {
			return t.ttl
		}
	}
	return 0
}

func (z *zone) soa(domain string) *wire.SOA {
	return &wire.SOA{
		Hdr: header(domain, wire.TypeSOA, z.SOA.MinTTL), Ns: "ns." + domain, Mbox: "hostmaster." + domain,
		Serial: uint32(time.Now().Unix()), Refresh: z.SOA.Refresh, Retry: z.SOA.Retry, Expire: z.SOA.Expire, Minttl: z.SOA.MinTTL,
	}
}

// apex answers SOA and NS questions, for any name in the domain.
func (h *handler) apex(domain string, qtype uint16) {
	servers, glue, err := h.nameServers(domain)
	if err != nil {
		h.failed(domain, err)
		return
	}
	if qtype == wire.TypeSOA {
		h.resp.Answer = []wire.RR{h.zone.soa(domain)}
		h.resp.Ns, h.resp.Extra = servers, glue
		return
	}
	if len(servers) == 0 {
		h.resp.Ns = []wire.RR{h.zone.soa(domain)}
		return
	}
	h.resp.Answer, h.resp.Extra = servers, glue
}

// nameServers returns up to three servers, chosen at random, and their addresses.
func (h *handler) nameServers(domain string) (servers, glue []wire.RR, err error) {
	z := h.zone
	instances, err := h.instances(z.Datacenter, "consul", nil)
	if err != nil {
		return nil, nil, err
	}
	rand.Shuffle(len(instances), func(i, j int) { instances[i], instances[j] = instances[j], instances[i] })
	ttl := seconds(z.NodeTTL)
	for _, in := range instances {
		addresses, _ := z.addresses(in, z.Datacenter, wire.TypeANY)
		target, ok := nodeName(in.Node.Node, z.dcOf(in.Node, z.Datacenter), domain)
		known := len(glue)
		for _, address := range addresses {
			if ip, isIP := parseIP(address); isIP && ok {
				glue = append(glue, addressRecord(target, ip, ttl))
			}
		}
		if len(glue) == known {
			continue
		}
		servers = append(servers, &wire.NS{Hdr: header(domain, wire.TypeNS, ttl), Ns: target})
		if len(servers) == 3 {
			break
		}
	}
	return servers, glue, nil
}

// dcOf is the datacenter of a node that was found in dc.
func (z *zone) dcOf(node *api.Node, dc string) string {
	return cmp.Or(strings.ToLower(node.Datacenter), dc)
}

func header(name string, rrtype uint16, ttl uint32) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: rrtype, Class: wire.ClassINET, Ttl: ttl}
}
