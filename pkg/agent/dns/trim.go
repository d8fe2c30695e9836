package dns

import (
	"sort"

	wire "github.com/miekg/dns"
)

// Sizes and counts of answers.
const (
	maxUDPSize      = 65467 // what an IP packet leaves for a message
	maxTCPSize      = 65535
	maxUDPAnswers   = 8 // without EDNS
	maxTCPAnswers   = 4096
	maxTCPServices  = 1024 // SRV records, which are larger
	minAnswerLength = 15   // the shortest record there can be: root name, header, IPv4 address
)

// size is how large the message may be.
func (h *handling) size() int {
	if h.tcp {
		return maxTCPSize
	}
	opt := h.req.IsEdns0()
	if opt == nil {
		return wire.MinMsgSize
	}
	return max(wire.MinMsgSize, min(int(opt.UDPSize()), maxUDPSize))
}

// maxAnswers is how many answers may be sent, whatever their size.
func (h *handling) maxAnswers() int {
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

// room is how many answers are worth making: one more than can be sent, so that
// the answer knows that something is left out.
func (h *handling) room() int { return h.maxAnswers() + 1 }

// finish adds EDNS and makes the answer fit.
func (h *handling) finish() *wire.Msg {
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

// trim leaves out what does not fit: what is merely helpful first, answers last
// and never all of them. It tells whether it left anything out.
func (h *handling) trim(size int) (trimmed bool) {
	m := h.resp
	if most := h.maxAnswers(); len(m.Answer) > most {
		m.Answer = m.Answer[:most]
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
	keep(len(extra), func(n int) bool { m.Extra = extra[:n]; return m.Len() <= size })
	if m.Len() <= size {
		return true
	}
	keep(len(answer), func(n int) bool { m.Answer = answer[:n]; return m.Len() <= size })
	if len(m.Answer) == 0 && len(answer) > 0 && !isText(answer[0]) {
		m.Answer = answer[:1] // too large by a few bytes is better than nothing at all
	}
	return true
}

// keep finds the largest n up to most that fits, and leaves fits called with it.
func keep(most int, fits func(n int) bool) {
	fits(sort.Search(most, func(n int) bool { return !fits(n + 1) }))
}

func isText(rr wire.RR) bool { return rr.Header().Rrtype == wire.TypeTXT }

// edns answers the EDNS part of a question, nil if it has none.
func (h *handling) edns() *wire.OPT {
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
		// An answer holds for every client, wherever it is: scope 0.
		if subnet, ok := option.(*wire.EDNS0_SUBNET); ok {
			echo := *subnet
			echo.SourceScope = 0
			opt.Option = append(opt.Option, &echo)
			break
		}
	}
	return opt
}
