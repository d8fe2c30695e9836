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
	maxAliases      = 3 // CNAMEs within our own domains
	maxChainRecords = 5 // records of a recursor's CNAME chain, without EDNS
)

// recurse answers with the answer of a recursor.
func (h *handler) recurse() *wire.Msg {
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

// ask sends a question to one recursor after the other until one answers.
func (h *handler) ask(question *wire.Msg) (*wire.Msg, error) {
	select {
	case h.server.upstream <- struct{}{}:
		defer func() { <-h.server.upstream }()
	default:
		return nil, fmt.Errorf("%d questions are waiting for recursors, the limit", MaxUpstream)
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

func (h *handler) askOne(question *wire.Msg, recursor string) (*wire.Msg, error) {
	msg := question.Copy()
	msg.Id = wire.Id() // not one that the client chose
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

// alias answers with a CNAME and the records of its target, if it can be resolved.
func (h *handler) alias(host string, ttl uint32) {
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

// addressesOf resolves a host: both families if the name is in our domains, which costs
// nothing; IPv4 if a recursor must be asked.
func (h *handler) addressesOf(host string) ([]wire.RR, error) {
	if h.zone.domainOf(host) == "" {
		return h.follow(host, wire.TypeA)
	}
	records, err := h.follow(host, wire.TypeANY)
	return slices.DeleteFunc(records, func(rr wire.RR) bool { return rr.Header().Rrtype == wire.TypeTXT }), err
}

// follow resolves a name that an answer refers to.
func (h *handler) follow(host string, qtype uint16) ([]wire.RR, error) {
	if domain := h.zone.domainOf(host); domain != "" {
		followed := append(slices.Clone(h.followed), h.question.Name)
		isHost := func(name string) bool { return strings.EqualFold(name, host) }
		if len(followed) > maxAliases || slices.ContainsFunc(followed, isHost) {
			return nil, nil
		}
		inner := *h
		inner.followed = followed
		inner.question = wire.Question{Name: host, Qtype: qtype, Qclass: wire.ClassINET}
		inner.resp = new(wire.Msg)
		inner.answerInDomain(domain)
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
