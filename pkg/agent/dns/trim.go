package dns

import (
	"sort"

	wire "github.com/miekg/dns"
)

// Sizes and counts of answers.
const (
	maxUDPSize      = 65467 // in an IP packet
	maxTCPSize      = 65535
	maxUDPAnswers   = 8 // without EDNS
	maxTCPAnswers   = 4096
	maxTCPServices  = 1024 // SRV records are larger
	minAnswerLength = 15   // bytes of the shortest record: root name, header, IPv4 address
)

// size is the limit of the message, in bytes.
func (h *handler) size() int {
	if h.tcp {
		return maxTCPSize
	}
	opt := h.req.IsEdns0()
	if opt == nil {
		return wire.MinMsgSize
	}
	return max(wire.MinMsgSize, min(int(opt.UDPSize()), maxUDPSize))
}

// maxAnswers limits the number of answers, whatever their size.
func (h *handler) maxAnswers() int {
	switch {
	case h.tcp && h.question.Qtype == wire.TypeSRV:
		return maxTCPServices
	case h.tcp:
		return maxTCPAnswers
	case h.size() > wire.MinMsgSize:
		return h.size() / minAnswerLength
	case h.zone.UDPAnswerLimit > 0:
		return min(maxUDPAnswers, h.zone.UDPAnswerLimit)
	}
	return maxUDPAnswers
}

// maxRecords limits the records to make: one more than can be sent, so that trim sees
// that one was left out.
func (h *handler) maxRecords() int { return h.maxAnswers() + 1 }

// finish makes the answer fit, and adds EDNS.
func (h *handler) finish() *wire.Msg {
	opt := h.edns()
	size := h.size()
	if opt != nil {
		size -= wire.Len(opt)
	}
	if h.trim(size) && h.zone.EnableTruncate {
		h.resp.Truncated = true
	}
	if opt != nil {
		h.resp.Extra = append(h.resp.Extra, opt)
	}
	return h.resp
}

// trim removes what does not fit: first additional records, then answers, but never all
// of them. It returns whether it removed any.
func (h *handler) trim(size int) (trimmed bool) {
	m := h.resp
	if limit := h.maxAnswers(); len(m.Answer) > limit {
		m.Answer = m.Answer[:limit]
		if h.glue != nil {
			m.Extra = h.glueOf(m.Answer)
		}
		trimmed = true
	}
	if m.Len() <= size {
		return trimmed
	}
	answer, extra := m.Answer, m.Extra
	if len(answer) > 0 {
		m.Ns = nil
	}
	largest(len(extra), func(n int) bool { m.Extra = extra[:n]; return m.Len() <= size })
	if m.Len() <= size {
		return true
	}
	largest(len(answer), func(n int) bool { m.Answer = answer[:n]; return m.Len() <= size })
	if len(m.Answer) == 0 && len(answer) > 0 && !isText(answer[0]) {
		m.Answer = answer[:1] // a few bytes too many are better than no answer
	}
	return true
}

// largest calls fits last with the largest n, up to limit, for which it returns true.
func largest(limit int, fits func(n int) bool) {
	fits(sort.Search(limit, func(n int) bool { return !fits(n + 1) }))
}

func isText(rr wire.RR) bool { return rr.Header().Rrtype == wire.TypeTXT }

// edns returns the OPT record of the answer, nil if the question has none.
func (h *handler) edns() *wire.OPT {
	asked := h.req.IsEdns0()
	if asked == nil {
		return nil
	}
	opt := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}}
	opt.SetUDPSize(max(wire.MinMsgSize, asked.UDPSize()))
	if asked.Do() {
		opt.SetDo()
	}
	for _, option := range asked.Option {
		// An answer is valid for every client: scope 0 (RFC 7871).
		if subnet, ok := option.(*wire.EDNS0_SUBNET); ok {
			echo := *subnet
			echo.SourceScope = 0
			opt.Option = append(opt.Option, &echo)
			break
		}
	}
	return opt
}
