package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
)

// handler makes the answer of one question.
type handler struct {
	ctx      context.Context
	server   *Server
	zone     *zone
	req      *wire.Msg
	question wire.Question
	resp     *wire.Msg
	tcp      bool
	followed []string // names in our domains whose CNAMEs were followed so far

	glue map[string]glue // additional records by SRV target
}

// glue is the additional records of one SRV target.
type glue struct{ addresses, texts []wire.RR }

// Handle answers one question; network is "udp" or "tcp". It may be called from any
// goroutine. It returns nil for a message that is no question.
func (s *Server) Handle(ctx context.Context, req *wire.Msg, network string, client netip.Addr) (resp *wire.Msg) {
	if req.Response {
		return nil
	}
	z := s.zone.Load()
	resp = new(wire.Msg).SetReply(req)
	resp.Compress = !z.DisableCompression
	resp.RecursionAvailable = len(z.Recursors) > 0
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("dns: handling a question panicked", "client", client, "panic", r, "stack", string(debug.Stack()))
			resp = failure(resp)
		}
	}()
	switch {
	case req.Opcode != wire.OpcodeQuery:
		resp.Rcode = wire.RcodeNotImplemented
		return resp
	case len(req.Question) != 1:
		resp.Rcode = wire.RcodeFormatError
		return resp
	}
	h := &handler{ctx: ctx, server: s, zone: z, req: req, question: req.Question[0], resp: resp, tcp: network == "tcp"}
	return h.run()
}

func (h *handler) run() *wire.Msg {
	q := h.question
	if opt := h.req.IsEdns0(); opt != nil && opt.Version() != 0 {
		h.resp.Rcode = wire.RcodeBadVers
		return h.finish()
	}
	if q.Qtype == wire.TypeAXFR || q.Qtype == wire.TypeIXFR {
		h.resp.Rcode = wire.RcodeNotImplemented
		return h.finish()
	}
	if domain := h.zone.domainOf(q.Name); domain != "" {
		h.answerInDomain(domain)
		return h.finish()
	}
	if ip, ok, reverse := parseArpa(q.Name); reverse {
		if h.pointer(ip, ok) || len(h.zone.Recursors) == 0 {
			return h.finish()
		}
	}
	if len(h.zone.Recursors) > 0 {
		return h.recurse()
	}
	h.resp.Rcode = wire.RcodeRefused
	return h.resp
}

// answerInDomain answers for a name in one of our domains.
func (h *handler) answerInDomain(domain string) {
	h.resp.Authoritative = true
	qtype := h.question.Qtype
	if qtype == wire.TypeSOA || qtype == wire.TypeNS {
		h.apex(domain, qtype)
		return
	}
	t := h.zone.parse(h.question.Name, domain)
	switch t.kind {
	case kindService:
		h.service(t)
	case kindNode:
		h.node(t, h.zone.Lookup.Node, h.zone.NodeTTL)
	case kindLeader:
		h.node(t, h.zone.Lookup.Elected, 0) // it may change at any time
	case kindAddr:
		h.addr(t)
	case kindVirtual: // NOERROR without a record
	default:
		h.nameError(domain)
	}
}

// pointer answers a reverse lookup. ok says whether the question has a whole address. It
// returns false if no node or service has the address.
func (h *handler) pointer(ip netip.Addr, ok bool) bool {
	z := h.zone
	h.resp.Authoritative = true
	name := ""
	if ok {
		var err error
		if name, err = h.pointerName(ip); err != nil {
			h.failed(z.Domain, err)
			return true
		}
	}
	if name == "" {
		h.nameError(z.Domain)
		return false
	}
	h.resp.Answer = []wire.RR{&wire.PTR{Hdr: header(h.question.Name, wire.TypePTR, 0), Ptr: name}}
	return true
}

func (h *handler) pointerName(ip netip.Addr) (string, error) {
	z := h.zone
	ctx, cancel := context.WithTimeout(h.ctx, lookupTimeout)
	defer cancel()
	node, err := z.Lookup.NodeByAddress(ctx, z.Datacenter, ip.String())
	if err != nil {
		return "", err
	}
	if node != nil {
		if name, ok := nodeName(node.Node, z.dcOf(node, z.Datacenter), z.Domain); ok {
			return name, nil
		}
	}
	service, err := z.Lookup.ServiceByAddress(ctx, z.Datacenter, ip.String())
	if err != nil || service == nil {
		return "", err
	}
	name, ok := serviceName(service.ServiceName, z.dcOf(&api.Node{Datacenter: service.Datacenter}, z.Datacenter), z.Domain)
	if !ok {
		return "", nil
	}
	return name, nil
}

// nameError answers NXDOMAIN.
func (h *handler) nameError(domain string) {
	h.resp.Rcode = wire.RcodeNameError
	h.resp.Ns = []wire.RR{h.zone.soa(domain)}
}

// failed answers for a lookup that failed.
func (h *handler) failed(domain string, err error) {
	if errors.Is(err, ErrUnknownDatacenter) {
		h.nameError(domain)
		return
	}
	h.server.log.Warn("dns: lookup failed", "name", h.question.Name, "error", fmt.Errorf("answered SERVFAIL: %w", err))
	failure(h.resp)
}

// failure turns an answer into SERVFAIL.
func failure(resp *wire.Msg) *wire.Msg {
	resp.Rcode = wire.RcodeServerFailure
	resp.Authoritative = false
	resp.Answer, resp.Ns, resp.Extra = nil, nil, nil
	return resp
}
