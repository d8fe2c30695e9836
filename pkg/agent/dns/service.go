package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
)

// maxHostLookups limits the host names among the SRV targets of one question that
// recursors resolve.
const maxHostLookups = 8

// service answers with the healthy instances of a service, in random order.
func (h *handler) service(t target) {
	instances, err := h.instances(t.dc, t.name, t.tags)
	if err != nil {
		h.failed(t.domain, err)
		return
	}
	if len(instances) == 0 {
		h.nameError(t.domain)
		return
	}
	rand.Shuffle(len(instances), func(i, j int) { instances[i], instances[j] = instances[j], instances[i] })
	qtype := h.question.Qtype
	switch {
	case qtype == wire.TypeSRV:
		h.serviceSRV(t, instances)
	case t.srv: // _name._tcp without .service
	case qtype == wire.TypeA || qtype == wire.TypeAAAA || qtype == wire.TypeANY || qtype == wire.TypeCNAME || qtype == wire.TypeTXT:
		h.serviceAddresses(t, instances)
	}
	if len(h.resp.Answer) == 0 && h.resp.Rcode == wire.RcodeSuccess {
		h.resp.Ns = []wire.RR{h.zone.soa(t.domain)}
	}
}

// instances returns those that are healthy enough for traffic; the slice is the caller's.
func (h *handler) instances(dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	ctx, cancel := context.WithTimeout(h.ctx, lookupTimeout)
	defer cancel()
	all, err := h.zone.Lookup.ServiceInstances(ctx, dc, name, tags)
	if err != nil {
		return nil, err
	}
	out := make([]*api.CheckServiceNode, 0, len(all))
	for _, in := range all {
		if in != nil && in.Node != nil && in.Service != nil && h.zone.isHealthy(in.Checks) {
			out = append(out, in)
		}
	}
	return out, nil
}

func (z *zone) isHealthy(checks []*api.HealthCheck) bool {
	for _, check := range checks {
		if check.Status == api.HealthCritical || z.OnlyPassing && check.Status != api.HealthPassing {
			return false
		}
	}
	return true
}

func (z *zone) port(in *api.CheckServiceNode, dc string) int {
	if wan, ok := in.Service.TaggedAddresses["wan"]; ok && wan.Port != 0 && z.isRemote(dc) {
		return wan.Port
	}
	return in.Service.Port
}

func (z *zone) isRemote(dc string) bool { return z.TranslateWAN && dc != z.Datacenter }

// serviceAddresses answers with A and AAAA records, or with one CNAME if no instance has
// an address of the family that was asked for.
func (h *handler) serviceAddresses(t target, instances []*api.CheckServiceNode) {
	ttl, limit := h.zone.serviceTTL(t.name), h.maxRecords()
	if h.zone.ARecordLimit > 0 {
		limit = min(limit, h.zone.ARecordLimit)
	}
	n := min(limit, len(instances))
	seen := make(map[netip.Addr]bool, n)
	h.resp.Answer = make([]wire.RR, 0, n)
	host := ""
	for _, in := range instances {
		addresses, _ := h.zone.addresses(in, t.dc, h.question.Qtype)
		for _, address := range addresses {
			ip, isIP := parseIP(address)
			switch {
			case !isIP && host == "":
				host = hostName(address)
			case isIP && !seen[ip]:
				seen[ip] = true
				h.resp.Answer = append(h.resp.Answer, addressRecord(h.question.Name, ip, ttl))
			}
			if len(h.resp.Answer) >= limit {
				return
			}
		}
	}
	if len(h.resp.Answer) == 0 && host != "" {
		h.alias(host, ttl)
	}
}

// asksFor says whether the question is for addresses of this family.
func (h *handler) asksFor(ip netip.Addr) bool {
	switch h.question.Qtype {
	case wire.TypeA:
		return ip.Is4()
	case wire.TypeAAAA:
		return ip.Is6()
	case wire.TypeANY, wire.TypeTXT: // the reference answers TXT with addresses too
		return true
	}
	return false
}

func (h *handler) serviceSRV(t target, instances []*api.CheckServiceNode) {
	type endpoint struct {
		node, address string
		port          int
	}
	ttl, limit := h.zone.serviceTTL(t.name), h.maxRecords()
	seen := make(map[endpoint]bool)
	h.glue = make(map[string]glue)
	lookups := maxHostLookups
	for _, in := range instances {
		addresses, own := h.zone.addresses(in, t.dc, wire.TypeSRV)
		if len(addresses) == 0 {
			continue
		}
		at := endpoint{in.Node.Node, addresses[0], h.zone.port(in, t.dc)}
		if seen[at] {
			continue
		}
		seen[at] = true
		if own {
			addresses = addresses[:1] // its name is made of this one
		}
		name, ok := h.srvTarget(t, in, addresses, own, ttl, &lookups)
		if !ok {
			continue
		}
		h.resp.Answer = append(h.resp.Answer, &wire.SRV{
			Hdr: header(h.question.Name, wire.TypeSRV, ttl), Priority: 1, Weight: weight(in),
			Port: uint16(max(0, min(at.port, 65535))), Target: name,
		})
		if len(h.resp.Answer) >= limit {
			break
		}
	}
	h.resp.Extra = h.glueOf(h.resp.Answer)
}

// srvTarget returns the target name of an instance, and collects its glue.
func (h *handler) srvTarget(t target, in *api.CheckServiceNode, addresses []string, own bool, ttl uint32, lookups *int) (string, bool) {
	z := h.zone
	dc := z.dcOf(in.Node, t.dc)
	ip, isIP := parseIP(addresses[0])
	if !isIP {
		host := hostName(addresses[0])
		if _, known := h.glue[host]; host != "" && !known {
			h.glue[host] = glue{addresses: h.hostGlue(host, lookups)}
		}
		return host, host != ""
	}
	name, ok := "", false
	if !own {
		name, ok = nodeName(in.Node.Node, dc, t.domain)
	}
	if !ok { // an address of its own, or a node without a valid name
		name, addresses = hexName(ip, dc, t.domain), addresses[:1]
	}
	if _, known := h.glue[name]; !known {
		var g glue
		for _, address := range addresses {
			if ip, ok := parseIP(address); ok {
				g.addresses = append(g.addresses, addressRecord(name, ip, ttl))
			}
		}
		if ok && z.NodeMetaTXT {
			g.texts = metaRecords(name, in.Node.Meta, ttl)
		}
		h.glue[name] = g
	}
	return name, true
}

// hostGlue resolves a host name if lookups are left. The first failure uses all of them
// up: if the recursors are down, each further name would cost their timeout.
func (h *handler) hostGlue(host string, lookups *int) []wire.RR {
	if *lookups <= 0 {
		return nil
	}
	*lookups--
	records, err := h.addressesOf(host)
	if err != nil {
		*lookups = 0
	}
	return records
}

// glueOf returns the additional records of SRV answers: first all addresses, then the TXT
// records, which are left out first if they do not fit.
func (h *handler) glueOf(answers []wire.RR) []wire.RR {
	var addresses, texts []wire.RR
	done := make(map[string]bool)
	for _, rr := range answers {
		srv, ok := rr.(*wire.SRV)
		if !ok || done[srv.Target] {
			continue
		}
		done[srv.Target] = true
		addresses = append(addresses, h.glue[srv.Target].addresses...)
		texts = append(texts, h.glue[srv.Target].texts...)
	}
	return append(addresses, texts...)
}

func weight(in *api.CheckServiceNode) uint16 {
	w := 0
	switch api.AggregatedStatus(in.Checks) {
	case api.HealthPassing:
		w = in.Service.Weights.Passing
	case api.HealthWarning:
		w = in.Service.Weights.Warning
	}
	return uint16(max(0, min(w, 65535)))
}

// hostName returns the fully qualified name, "" if it is not valid.
func hostName(address string) string {
	address = strings.ToLower(strings.TrimSpace(address))
	if _, ok := wire.IsDomainName(address); address == "" || !ok {
		return ""
	}
	return wire.Fqdn(address)
}

func addressRecord(name string, ip netip.Addr, ttl uint32) wire.RR {
	if ip.Is4() {
		return &wire.A{Hdr: header(name, wire.TypeA, ttl), A: ip.AsSlice()}
	}
	return &wire.AAAA{Hdr: header(name, wire.TypeAAAA, ttl), AAAA: ip.AsSlice()}
}
