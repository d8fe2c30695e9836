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

// node answers for the node that a lookup finds: its address and its metadata.
func (h *handling) node(t target, lookUp func(ctx context.Context, dc, name string) (*api.Node, error), keep time.Duration) {
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
	qtype, ttl := h.question.Qtype, seconds(keep)
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

// addr answers for an address spelled in hex. A type that does not fit gets the
// record as an additional one.
func (h *handling) addr(t target) {
	ip, ok := parseHex(t.name)
	if !ok {
		h.nameError(t.domain)
		return
	}
	record := []wire.RR{addressRecord(h.question.Name, ip, seconds(h.zone.NodeTTL))}
	if h.wants(ip) && h.question.Qtype != wire.TypeTXT {
		h.resp.Answer = record
	} else {
		h.resp.Extra = record
	}
}

// metaRecords writes metadata as text records, sorted by key.
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

// rfc1464 quotes what would end a key early or be stripped from it.
func rfc1464(key string) string {
	inner := strings.Trim(key, " \t")
	start := strings.Index(key, inner)
	quote := strings.NewReplacer(" ", "` ", "\t", "`\t")
	return quote.Replace(key[:start]) + strings.NewReplacer("`", "``", "=", "`=").Replace(inner) + quote.Replace(key[start+len(inner):])
}

// chunks cuts a text into the strings of at most 255 bytes that a record holds,
// in the presentation format, where a backslash escapes.
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
