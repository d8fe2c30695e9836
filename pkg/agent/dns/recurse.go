package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

const (
	maxAliases      = 3 // CNAMEs within our own domains that are followed
	maxChainRecords = 5 // records of a chain from a recursor, without EDNS
)

// forward has a recursor answer the question.
func (h *handling) forward() *wire.Msg {
	reply, err := h.ask(h.req)
	if err != nil {
		h.server.log.Warn("dns: no recursor answered", "name", h.question.Name, "error", err)
		failure(h.resp)
		return h.finish()
	}
	reply.Id = h.req.Id
	reply.RecursionAvailable = true
	reply.Compress = !h.zone.DisableCompression
	return reply
}

// ask sends a question to one recursor after the other until one answers it.
func (h *handling) ask(question *wire.Msg) (*wire.Msg, error) {
	select {
	case h.server.upstream <- struct{}{}:
		defer func() { <-h.server.upstream }()
	default:
		return nil, fmt.Errorf("%d questions wait for recursors already", MaxUpstream)
	}
	recursors := h.zone.Recursors
	if h.zone.RandomRecursor {
		recursors = slices.Clone(recursors)
		rand.Shuffle(len(recursors), func(i, j int) { recursors[i], recursors[j] = recursors[j], recursors[i] })
	}
	errs := []error{}
	for _, recursor := range recursors {
		reply, err := h.askOne(question, recursor)
		if err == nil {
			return reply, nil
		}
		errs = append(errs, err)
		if h.ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (h *handling) askOne(question *wire.Msg, recursor string) (*wire.Msg, error) {
	msg := question.Copy()
	msg.Id = wire.Id() // ours, not one that the client chose
	client := wire.Client{Net: "udp", Timeout: h.zone.RecursorTimeout, UDPSize: wire.MinMsgSize}
	if h.tcp {
		client.Net = "tcp"
	}
	if opt := msg.IsEdns0(); opt != nil {
		client.UDPSize = max(wire.MinMsgSize, opt.UDPSize())
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.zone.RecursorTimeout)
	defer cancel()
	reply, _, err := client.ExchangeContext(ctx, msg, recursor)
	if err != nil {
		return nil, fmt.Errorf("ask recursor %s: %w", recursor, err)
	}
	if reply.Rcode != wire.RcodeSuccess && reply.Rcode != wire.RcodeNameError {
		return nil, fmt.Errorf("ask recursor %s: it answered %s", recursor, wire.RcodeToString[reply.Rcode])
	}
	return reply, nil
}

// alias answers with a CNAME, and with what it leads to if that can be found.
func (h *handling) alias(host string, ttl uint32) {
	h.resp.Answer = []wire.RR{&wire.CNAME{Hdr: header(h.question.Name, wire.TypeCNAME, ttl), Target: host}}
	var records []wire.RR
	var err error
	switch qtype := h.question.Qtype; qtype {
	case wire.TypeCNAME, wire.TypeTXT:
	case wire.TypeANY:
		records, err = h.addressesOf(host)
	default:
		records, err = h.follow(host, qtype)
	}
	if err != nil {
		h.server.log.Debug("dns: the target of a CNAME was not resolved", "name", h.question.Name, "target", host, "error", err)
		return
	}
	h.resp.Answer = append(h.resp.Answer, records...)
}

// addressesOf finds where a host is: addresses of both families for a name of
// ours, which costs nothing more; IPv4 where a recursor has to be asked.
func (h *handling) addressesOf(host string) ([]wire.RR, error) {
	if h.zone.domainOf(host) == "" {
		return h.follow(host, wire.TypeA)
	}
	records, err := h.follow(host, wire.TypeANY)
	return slices.DeleteFunc(records, func(rr wire.RR) bool { return rr.Header().Rrtype == wire.TypeTXT }), err
}

// follow finds the records of a name that an answer refers to.
func (h *handling) follow(host string, qtype uint16) ([]wire.RR, error) {
	if domain := h.zone.domainOf(host); domain != "" {
		followed := append(slices.Clone(h.followed), h.question.Name)
		again := func(name string) bool { return strings.EqualFold(name, host) }
		if len(followed) > maxAliases || slices.ContainsFunc(followed, again) {
			return nil, nil
		}
		inner := *h
		inner.followed = followed
		inner.question = wire.Question{Name: host, Qtype: qtype, Qclass: wire.ClassINET}
		inner.resp = new(wire.Msg)
		inner.inDomain(domain)
		return inner.resp.Answer, nil
	}
	if len(h.zone.Recursors) == 0 {
		return nil, nil
	}
	question := new(wire.Msg).SetQuestion(host, qtype)
	edns := h.req.IsEdns0()
	if edns != nil {
		question.SetEdns0(max(wire.MinMsgSize, edns.UDPSize()), false)
	}
	reply, err := h.ask(question)
	if err != nil {
		return nil, err
	}
	if edns == nil && len(reply.Answer) > maxChainRecords {
		return reply.Answer[:maxChainRecords], nil
	}
	return reply.Answer, nil
}
