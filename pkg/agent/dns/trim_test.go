package dns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

func manyInstances(n int) *catalog {
	c := &catalog{}
	for i := range n {
		node := c.addNode(fmt.Sprintf("node-%d", i), "dc1", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), map[string]string{"rack": fmt.Sprint(i)})
		c.addService(node, "web", "", 8000, "passing")
		c.addService(node, "own", fmt.Sprintf("10.%d.%d.%d", 100+i>>16, i>>8&255, i&255), 8000, "passing")
		c.addService(node, "host", fmt.Sprintf("%s.host-%d.example.org", strings.Repeat("x", 60), i), 8000, "passing")
	}
	return c
}

// TestAnswersFit: every answer fits, says so when something is missing, and holds
// at least one instance.
func TestAnswersFit(t *testing.T) {
	for _, instances := range []int{1, 9, 1000, 5000} {
		for _, compressed := range []bool{true, false} {
			cfg := testConfig(manyInstances(instances))
			cfg.DisableCompression = !compressed
			s := New(cfg)
			for _, size := range []int{0, 100, 512, 1232, 4096, 65535, wire.MaxMsgSize + 1} { // 0: no EDNS; the last: TCP
				for _, q := range []struct {
					name  string
					qtype uint16
				}{{"web", wire.TypeA}, {"web", wire.TypeSRV}, {"own", wire.TypeSRV}, {"host", wire.TypeSRV}, {"host", wire.TypeA}, {"web", wire.TypeANY}} {
					checkFits(t, s, q.name+".service.consul.", q.qtype, size, instances)
				}
			}
		}
	}
}

func checkFits(t *testing.T, s *Server, name string, qtype uint16, size, instances int) {
	t.Helper()
	what := fmt.Sprintf("%d instances, %s %s, size %d", instances, name, wire.TypeToString[qtype], size)
	req := new(wire.Msg).SetQuestion(name, qtype)
	network, limit := "udp", max(512, min(size, maxUDPSize))
	switch {
	case size > wire.MaxMsgSize:
		network, limit = "tcp", wire.MaxMsgSize
	case size > 0:
		req.SetEdns0(uint16(size), false)
	}
	resp := s.Handle(t.Context(), req, network, netip.Addr{})
	data, err := resp.Pack()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if len(data) > limit {
		t.Errorf("%s: %d bytes", what, len(data))
	}
	var back wire.Msg
	if err := back.Unpack(data); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	all := instances
	if strings.HasPrefix(name, "host") && qtype == wire.TypeA {
		all = 1 // one CNAME
	}
	if len(back.Answer) == 0 || len(back.Answer) > all {
		t.Errorf("%s: %d answers", what, len(back.Answer))
	}
	if network == "udp" && limit == 512 && len(back.Answer) > 3 {
		t.Errorf("%s: %d answers, udp_answer_limit is 3", what, len(back.Answer))
	}
	complete := len(back.Answer) == all && (qtype != wire.TypeSRV || strings.HasPrefix(name, "host") || gluePresent(&back))
	if back.Truncated == complete {
		t.Errorf("%s: tc is %v with %d of %d answers, %d additional", what, back.Truncated, len(back.Answer), all, len(back.Extra))
	}
	if (back.IsEdns0() != nil) != (network == "udp" && size > 0) {
		t.Errorf("%s: EDNS must be answered with EDNS", what)
	}
	checkGlue(t, what, &back)
}

// gluePresent: the address of every target is there, and the text of every node.
func gluePresent(m *wire.Msg) bool {
	have := map[string]int{}
	for _, rr := range m.Extra {
		have[rr.Header().Name]++
	}
	for _, rr := range m.Answer {
		target := rr.(*wire.SRV).Target
		if want := 1 + strings.Count(target, ".node."); have[target] != want {
			return false
		}
	}
	return true
}

// checkGlue: no additional record for a target that was left out.
func checkGlue(t *testing.T, what string, m *wire.Msg) {
	t.Helper()
	targets := map[string]bool{}
	for _, rr := range m.Answer {
		if srv, ok := rr.(*wire.SRV); ok {
			targets[srv.Target] = true
		}
	}
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != wire.TypeOPT && !targets[rr.Header().Name] {
			t.Errorf("%s: an additional record for %s, which is not in the answer", what, rr.Header().Name)
			return
		}
	}
}

func TestAnswerLimits(t *testing.T) {
	for name, c := range map[string]struct {
		set     func(*Config)
		qtype   uint16
		network string
		edns    uint16
		want    int
		tc      bool
	}{
		"udp default":           {func(*Config) {}, wire.TypeA, "udp", 0, 3, true},
		"udp built in":          {func(c *Config) { c.UDPAnswerLimit = 0 }, wire.TypeA, "udp", 0, 8, true},
		"udp at most 8":         {func(c *Config) { c.UDPAnswerLimit = 50 }, wire.TypeA, "udp", 0, 8, true},
		"udp small edns":        {func(*Config) {}, wire.TypeA, "udp", 512, 3, true},
		"udp edns":              {func(*Config) {}, wire.TypeA, "udp", 4096, 20, false},
		"tcp":                   {func(*Config) {}, wire.TypeA, "tcp", 0, 20, false},
		"no tc":                 {func(c *Config) { c.EnableTruncate = false }, wire.TypeA, "udp", 0, 3, false},
		"a_record_limit":        {func(c *Config) { c.ARecordLimit = 5 }, wire.TypeA, "tcp", 0, 5, false},
		"a_record_limit, any":   {func(c *Config) { c.ARecordLimit = 5 }, wire.TypeANY, "udp", 4096, 5, false},
		"a_record_limit, udp":   {func(c *Config) { c.ARecordLimit = 2 }, wire.TypeA, "udp", 0, 2, false},
		"a_record_limit, large": {func(c *Config) { c.ARecordLimit = 50 }, wire.TypeA, "udp", 0, 3, true},
		"a_record_limit, srv":   {func(c *Config) { c.ARecordLimit = 5 }, wire.TypeSRV, "tcp", 0, 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(manyInstances(20))
			c.set(&cfg)
			req := new(wire.Msg).SetQuestion("web.service.consul.", c.qtype)
			if c.edns > 0 {
				req.SetEdns0(c.edns, false)
			}
			resp := New(cfg).Handle(t.Context(), req, c.network, netip.Addr{})
			if len(resp.Answer) != c.want || resp.Truncated != c.tc {
				t.Errorf("got %d answers, tc %v", len(resp.Answer), resp.Truncated)
			}
		})
	}
}

// TestHugeMetadata: a text that cannot fit is left out, with TC; over TCP it is there.
func TestHugeMetadata(t *testing.T) {
	c := &catalog{}
	c.addNode("n", "dc1", "10.0.0.1", map[string]string{"k": strings.Repeat("x", 512)})
	s := New(testConfig(c))
	if resp := ask(t, s, "n.node.consul.", "TXT", "udp"); len(resp.Answer) != 0 || !resp.Truncated || resp.Len() > 512 {
		t.Errorf("TXT over UDP: %v", resp)
	}
	if resp := ask(t, s, "n.node.consul.", "A", "udp"); len(resp.Answer) != 1 || !resp.Truncated || resp.Len() > 512 {
		t.Errorf("A over UDP: %v", resp)
	}
	if resp := ask(t, s, "n.node.consul.", "TXT", "tcp"); len(resp.Answer) != 1 || resp.Truncated {
		t.Errorf("TXT over TCP: %v", resp)
	}
}

// TestNamesThatDNSCannotCarry: such a node is reached by its address.
func TestNamesThatDNSCannotCarry(t *testing.T) {
	c := &catalog{}
	long := strings.Repeat("n", 70)
	c.addService(c.addNode(long, "dc1", "10.0.0.1", nil), "web", "", 80, "passing")
	c.addService(c.nodes[0], "bad", strings.Repeat("h", 70)+".example", 80, "passing")
	c.addService(c.addNode(`back\slash`, "dc1", "10.0.0.2", nil), "slash", "", 80, "passing")
	s := New(testConfig(c))
	if got := show(ask(t, s, "web.service.consul.", "SRV", "udp")); !strings.Contains(got, "SRV 1 10 80 0a000001.addr.dc1.consul.") {
		t.Error(got)
	}
	if got := show(ask(t, s, "bad.service.consul.", "A", "udp")); got != "ns consul. SOA" {
		t.Error(got)
	}
	if got := show(ask(t, s, "1.0.0.10.in-addr.arpa.", "PTR", "udp")); got != nx {
		t.Error(got)
	}
	resp := ask(t, s, "slash.service.consul.", "SRV", "udp")
	target := resp.Answer[0].(*wire.SRV).Target
	if got := ask(t, s, target, "A", "udp"); len(got.Answer) != 1 {
		t.Errorf("the target %s must lead to the node: %v", target, got)
	}
}

func TestEDNS(t *testing.T) {
	s := New(testConfig(testCatalog()))
	subnet := &wire.EDNS0_SUBNET{Code: wire.EDNS0SUBNET, Family: 1, SourceNetmask: 24, SourceScope: 9, Address: net.IPv4(192, 0, 2, 0).To4()}
	for _, name := range []string{"web.service.consul.", "none.service.consul."} {
		req := new(wire.Msg).SetQuestion(name, wire.TypeA).SetEdns0(1400, true)
		req.IsEdns0().Option = append(req.IsEdns0().Option, subnet)
		opt := s.Handle(t.Context(), req, "udp", netip.Addr{}).IsEdns0()
		if opt == nil || opt.UDPSize() != 1400 || !opt.Do() || len(opt.Option) != 1 {
			t.Fatalf("%s: %v", name, opt)
		}
		if got := opt.Option[0].(*wire.EDNS0_SUBNET); got.SourceScope != 0 || got.SourceNetmask != 24 || !got.Address.Equal(subnet.Address) {
			t.Errorf("%s: %v", name, got)
		}
	}
	refused := s.Handle(t.Context(), new(wire.Msg).SetQuestion("example.org.", wire.TypeA).SetEdns0(1400, false), "udp", netip.Addr{})
	if refused.IsEdns0() != nil || refused.Rcode != wire.RcodeRefused {
		t.Errorf("REFUSED has no EDNS: %v", refused)
	}
}

// TestOneAnswerIsKept: even one that is too large by a few bytes.
func TestOneAnswerIsKept(t *testing.T) {
	label := strings.Repeat("l", 63)
	tag := strings.Join([]string{label, label, label, label[:30]}, ".")
	c := &catalog{}
	c.addService(c.addNode("n", "dc1", "10.0.0.1", nil), "web", strings.Join([]string{label, label, label, label[:60]}, "."), 80, "passing", tag)
	resp := ask(t, New(testConfig(c)), tag+".web.service.consul.", "SRV", "udp")
	if len(resp.Answer) != 1 || !resp.Truncated || resp.Len() <= wire.MinMsgSize {
		t.Errorf("got %d bytes: %v", resp.Len(), resp)
	}
}
