package dns

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
)

// node answers with the address and metadata of the node that lookUp returns.
func (h *handler) node(t target, lookUp func(ctx context.Context, dc, name string) (*api.Node, error), nodeTTL time.Duration) {
	ctx, cancel := context.WithTimeout(h.ctx, lookupTimeout)
	defer cancel()
	node, err := lookUp(ctx, t.dc, t.name)
	switch {
	case err != nil:
		h.failed(t.domain, err)
		return
	case node == nil:
		h.nameError(t.domain)
		return
	}
	qtype, ttl := h.question.Qtype, seconds(nodeTTL)
	if !slices.Contains([]uint16{wire.TypeA, wire.TypeAAAA, wire.TypeANY, wire.TypeTXT, wire.TypeCNAME}, qtype) {
		return
	}
	texts := metaRecords(h.question.Name, node.Meta, ttl)
	if qtype == wire.TypeTXT {
		h.resp.Answer = texts
		return
	}
	host := hostName(node.Address)
	if _, isIP := parseIP(node.Address); isIP {
		host = ""
	}
	for _, address := range h.zone.nodeAddresses(node, t.dc, qtype) {
		if ip, ok := parseIP(address); ok {
			h.resp.Answer, host = append(h.resp.Answer, addressRecord(h.question.Name, ip, ttl)), ""
		} else {
			host = hostName(address)
		}
	}
	switch {
	case host != "":
		h.alias(host, ttl)
	case qtype == wire.TypeANY:
		h.resp.Answer = append(h.resp.Answer, texts...)
	case qtype != wire.TypeCNAME && h.zone.NodeMetaTXT:
		h.resp.Extra = texts
	}
}

// addr answers for a name that is an address in hex. If the question is for another type,
// the address is an additional record.
func (h *handler) addr(t target) {
	ip, ok := parseHex(t.name)
	if !ok {
		h.nameError(t.domain)
		return
	}
	record := []wire.RR{addressRecord(h.question.Name, ip, seconds(h.zone.NodeTTL))}
	if h.asksFor(ip) && h.question.Qtype != wire.TypeTXT {
		h.resp.Answer = record
	} else {
		h.resp.Extra = record
	}
}

// metaRecords returns metadata as TXT records, sorted by key.
func metaRecords(name string, meta map[string]string, ttl uint32) []wire.RR {
	var out []wire.RR
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		text := rfc1464(key) + "=" + meta[key]
		if strings.HasPrefix(strings.ToLower(key), "rfc1035-") {
			text = meta[key]
		}
		out = append(out, &wire.TXT{Hdr: header(name, wire.TypeTXT, ttl), Txt: chunks(text)})
	}
	return out
}

// rfc1464 quotes characters of a key that have a meaning in RFC 1464.
func rfc1464(key string) string {
	inner := strings.Trim(key, " \t")
	start := strings.Index(key, inner)
	quote := strings.NewReplacer(" ", "` ", "\t", "`\t")
	return quote.Replace(key[:start]) + strings.NewReplacer("`", "``", "=", "`=").Replace(inner) + quote.Replace(key[start+len(inner):])
}

// chunks splits a text into strings of up to 255 bytes, the limit in a TXT record, in the
// presentation format with its escapes.
func chunks(text string) []string {
	var out []string
	for {
		n := min(len(text), 255)
		out = append(out, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text[:n]))
		if text = text[n:]; text == "" {
			return out
		}
	}
}
