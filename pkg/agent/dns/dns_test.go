package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// catalog is a Lookup over lists.
type catalog struct {
	nodes     []*api.Node
	instances []*api.CheckServiceNode
	err       error
}

func (c *catalog) check(dc string) error {
	if c.err != nil {
		return c.err
	}
	if dc != "dc1" && dc != "dc2" {
		return fmt.Errorf("look up: %w", ErrUnknownDatacenter)
	}
	return nil
}

func (c *catalog) ServiceInstances(_ context.Context, dc, name string, tags []string) ([]*api.CheckServiceNode, error) {
	var out []*api.CheckServiceNode
	for _, in := range c.instances {
		has := func(tag string) bool {
			return slices.ContainsFunc(in.Service.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
		}
		if in.Node.Datacenter == dc && strings.EqualFold(in.Service.Service, name) && !slices.ContainsFunc(tags, func(t string) bool { return !has(t) }) {
			out = append(out, in)
		}
	}
	return out, c.check(dc)
}

func (c *catalog) Node(_ context.Context, dc, name string) (*api.Node, error) {
	for _, n := range c.nodes {
		if n.Datacenter == dc && strings.EqualFold(n.Node, name) {
			return n, c.check(dc)
		}
	}
	return nil, c.check(dc)
}

func (c *catalog) NodeByAddress(_ context.Context, dc, ip string) (*api.Node, error) {
	for _, n := range c.nodes {
		if n.Datacenter == dc && n.Address == ip {
			return n, c.check(dc)
		}
	}
	return nil, c.check(dc)
}

func (c *catalog) ServiceByAddress(_ context.Context, dc, ip string) (*api.ServiceNode, error) {
	for _, in := range c.instances {
		if in.Node.Datacenter == dc && in.Service.Address == ip {
			return &api.ServiceNode{ServiceName: in.Service.Service, Datacenter: dc}, c.check(dc)
		}
	}
	return nil, c.check(dc)
}

// Elected finds that node1 leads "jobs" and "a.b".
func (c *catalog) Elected(ctx context.Context, dc, name string) (*api.Node, error) {
	if name != "jobs" && name != "a.b" {
		return nil, c.check(dc)
	}
	return c.Node(ctx, dc, "node1")
}

func (c *catalog) addNode(name, dc, address string, meta map[string]string) *api.Node {
	n := &api.Node{Node: name, Datacenter: dc, Address: address, Meta: meta, TaggedAddresses: map[string]string{"wan": "9.9.9.9"}}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *catalog) addService(node *api.Node, name, address string, port int, status string, tags ...string) *api.CheckServiceNode {
	in := &api.CheckServiceNode{
		Node:    node,
		Service: &api.NodeService{ID: name, Service: name, Address: address, Port: port, Tags: tags, Weights: api.Weights{Passing: 10, Warning: 3}},
		Checks:  []*api.HealthCheck{{CheckID: "serfHealth", Status: api.HealthPassing}, {CheckID: "c", Status: status}},
	}
	c.instances = append(c.instances, in)
	return in
}

func testCatalog() *catalog {
	c := &catalog{}
	n1 := c.addNode("node1", "dc1", "10.0.0.1", map[string]string{"rack": "r1", "rfc1035-txt": "plain"})
	n2 := c.addNode("n.two", "dc1", "fd00::2", nil)
	n3 := c.addNode("named", "dc1", "host.example.org", map[string]string{"a": "b"})
	far := c.addNode("far", "dc2", "10.2.0.1", nil)
	c.addService(n1, "consul", "", 8300, "passing")
	c.addService(n1, "web", "", 80, "passing", "v1", "Release.2")
	c.addService(n2, "web", "", 81, "warning", "v2")
	c.addService(n2, "web", "10.0.0.9", 82, "critical", "v1")
	c.addService(n1, "own", "10.0.0.7", 83, "passing")
	c.addService(n1, "own6", "fd00::7", 83, "passing")
	c.addService(n1, "down", "", 84, "critical")
	c.addService(n1, "un_der", "", 85, "passing")
	c.addService(n1, "alias", "outside.example.org", 86, "passing")
	c.addService(n1, "inner", "web.service.consul", 87, "passing")
	c.addService(n1, "loop", "loop.service.consul", 88, "passing")
	c.addService(n3, "hosted", "", 89, "passing")
	c.addService(n1, "twice", "10.0.0.7", 90, "passing")
	c.addService(n1, "twice", "10.0.0.7", 90, "passing")
	c.addService(far, "web", "", 80, "passing")
	c.addService(far, "tagged", "", 80, "passing").Service.TaggedAddresses = map[string]api.ServiceAddress{"wan": {Address: "8.8.8.8", Port: 8080}}
	return c
}

func testConfig(c Lookup) Config {
	return Config{
		Domain: "consul.", AltDomain: "alt.example.", Datacenter: "dc1", Lookup: c, Logger: logx.Discard(),
		SOA: SOA{3600, 600, 86400, 0}, EnableTruncate: true, UDPAnswerLimit: 3, NodeMetaTXT: true, RecursorTimeout: 2 * time.Second,
		ServiceTTL: map[string]time.Duration{"web": 10 * time.Second, "o*": 20 * time.Second, "own*": 30 * time.Second}, NodeTTL: 5 * time.Second,
	}
}

// show writes a message as one line per record: section, owner, ttl, type, data.
func show(m *wire.Msg) string {
	var out []string
	for _, section := range []struct {
		name string
		rrs  []wire.RR
	}{{"", m.Answer}, {"ns ", m.Ns}, {"+ ", m.Extra}} {
		var lines []string
		for _, rr := range section.rrs {
			if rr.Header().Rrtype == wire.TypeOPT {
				continue
			}
			if soa, ok := rr.(*wire.SOA); ok {
				lines = append(lines, section.name+soa.Hdr.Name+" SOA")
				continue
			}
			f := strings.Fields(rr.String())
			lines = append(lines, section.name+f[0]+" "+f[1]+" "+strings.Join(f[3:], " "))
		}
		slices.Sort(lines) // the order is random
		out = append(out, lines...)
	}
	if m.Rcode != wire.RcodeSuccess {
		out = append([]string{wire.RcodeToString[m.Rcode]}, out...)
	}
	return strings.Join(out, "\n")
}

func ask(t *testing.T, s *Server, name, qtype, network string) *wire.Msg {
	t.Helper()
	req := new(wire.Msg).SetQuestion(name, wire.StringToType[qtype])
	resp := s.Handle(t.Context(), req, network, netip.MustParseAddr("127.0.0.1"))
	if _, err := resp.Pack(); err != nil {
		t.Fatalf("%s %s: %v", name, qtype, err)
	}
	if resp.Id != req.Id || !resp.Response || len(resp.Question) != 1 || resp.Question[0] != req.Question[0] {
		t.Fatalf("%s %s: not an answer to the question: %v", name, qtype, resp)
	}
	return resp
}

const nx = "NXDOMAIN\nns consul. SOA"

func TestAnswers(t *testing.T) {
	const web1 = "web.service.consul. 10 A 10.0.0.1"
	const meta1 = `+ node1.node.dc1.consul. 10 TXT "plain"` + "\n" + `+ node1.node.dc1.consul. 10 TXT "rack=r1"`
	const leaderMeta = `+ NAME 0 TXT "plain"` + "\n" + `+ NAME 0 TXT "rack=r1"`
	const srv1 = " 10 SRV 1 10 80 node1.node.dc1.consul."
	const srv2 = " 10 SRV 1 3 81 n.two.node.dc1.consul."
	const glue = "\n+ n.two.node.dc1.consul. 10 AAAA fd00::2\n+ node1.node.dc1.consul. 10 A 10.0.0.1\n" + meta1
	for _, c := range []struct{ name, qtype, want string }{
		// elections
		{"jobs.leader.consul.", "A", "jobs.leader.consul. 0 A 10.0.0.1\n" + strings.ReplaceAll(leaderMeta, "NAME", "jobs.leader.consul.")},
		{"a.b.leader.dc1.consul.", "A", "a.b.leader.dc1.consul. 0 A 10.0.0.1\n" + strings.ReplaceAll(leaderMeta, "NAME", "a.b.leader.dc1.consul.")},
		{"jobs.leader.consul.", "AAAA", strings.ReplaceAll(leaderMeta, "NAME", "jobs.leader.consul.")},
		{"nobody.leader.consul.", "A", nx},
		{"leader.consul.", "A", nx},
		{"jobs.leader.dc9.consul.", "A", nx},

		// services
		{"web.service.consul.", "A", web1},
		{"web.service.consul.", "AAAA", "web.service.consul. 10 AAAA fd00::2"},
		{"web.service.consul.", "ANY", web1 + "\nweb.service.consul. 10 AAAA fd00::2"},
		{"web.service.consul.", "TXT", web1 + "\nweb.service.consul. 10 AAAA fd00::2"},
		{"web.service.consul.", "MX", "ns consul. SOA"},
		{"web.service.consul.", "CNAME", "ns consul. SOA"},
		{"WeB.SerVice.coNSul.", "A", "WeB.SerVice.coNSul. 10 A 10.0.0.1"},
		{"web.service.dc1.consul.", "A", "web.service.dc1.consul. 10 A 10.0.0.1"},
		{"web.service.dc1.dc.consul.", "A", "web.service.dc1.dc.consul. 10 A 10.0.0.1"},
		{"web.service.default.ns.dc1.dc.consul.", "A", "web.service.default.ns.dc1.dc.consul. 10 A 10.0.0.1"},
		{"web.service.dc2.consul.", "A", "web.service.dc2.consul. 10 A 10.2.0.1"},
		{"web.service.dc9.consul.", "A", nx},
		{"web.service.x.peer.consul.", "A", nx},
		{"web.service.a.b.c.consul.", "A", nx},
		{"v1.web.service.consul.", "A", "v1.web.service.consul. 10 A 10.0.0.1"},
		{"V1.web.service.consul.", "A", "V1.web.service.consul. 10 A 10.0.0.1"},
		{"release.2.web.service.consul.", "A", "release.2.web.service.consul. 10 A 10.0.0.1"},
		{"v2.web.service.consul.", "A", "ns consul. SOA"}, // it is there, with IPv6
		{"v9.web.service.consul.", "A", nx},
		{"down.service.consul.", "A", nx},
		{"none.service.consul.", "SRV", nx},
		{"own.service.consul.", "A", "own.service.consul. 30 A 10.0.0.7"},
		{"un_der.service.consul.", "A", "un_der.service.consul. 0 A 10.0.0.1"},
		{"un\\095der.service.consul.", "A", "un\\095der.service.consul. 0 A 10.0.0.1"},
		{"twice.service.consul.", "A", "twice.service.consul. 0 A 10.0.0.7"},

		// SRV and RFC 2782
		{"web.service.consul.", "SRV", "web.service.consul." + srv1 + "\nweb.service.consul." + srv2 + glue},
		{"_web._tcp.service.consul.", "SRV", "_web._tcp.service.consul." + srv1 + "\n_web._tcp.service.consul." + srv2 + glue},
		{"_web._tcp.consul.", "SRV", "_web._tcp.consul." + srv1 + "\n_web._tcp.consul." + srv2 + glue},
		{"_web._TCP.dc1.consul.", "SRV", "_web._TCP.dc1.consul." + srv1 + "\n_web._TCP.dc1.consul." + srv2 + glue},
		{"_web._v2.service.consul.", "SRV", "_web._v2.service.consul." + srv2 + "\n+ n.two.node.dc1.consul. 10 AAAA fd00::2"},
		{"_web._tcp.service.consul.", "A", "_web._tcp.service.consul. 10 A 10.0.0.1"},
		{"_web._tcp.consul.", "A", "ns consul. SOA"},
		{"own.service.consul.", "SRV", "own.service.consul. 30 SRV 1 10 83 0a000007.addr.dc1.consul.\n+ 0a000007.addr.dc1.consul. 30 A 10.0.0.7"},
		{"own6.service.consul.", "SRV", "own6.service.consul. 30 SRV 1 10 83 fd000000000000000000000000000007.addr.dc1.consul.\n" +
			"+ fd000000000000000000000000000007.addr.dc1.consul. 30 AAAA fd00::7"},
		{"twice.service.consul.", "SRV", "twice.service.consul. 0 SRV 1 10 90 0a000007.addr.dc1.consul.\n+ 0a000007.addr.dc1.consul. 0 A 10.0.0.7"},
		{"web.service.dc2.consul.", "SRV", "web.service.dc2.consul. 10 SRV 1 10 80 far.node.dc2.consul.\n+ far.node.dc2.consul. 10 A 10.2.0.1"},
		{"alias.service.consul.", "SRV", "alias.service.consul. 0 SRV 1 10 86 outside.example.org."},
		{"inner.service.consul.", "SRV", "inner.service.consul. 0 SRV 1 10 87 web.service.consul.\n+ web.service.consul. 10 A 10.0.0.1\n+ web.service.consul. 10 AAAA fd00::2"},

		// host names
		{"alias.service.consul.", "A", "alias.service.consul. 0 CNAME outside.example.org."},
		{"alias.service.consul.", "CNAME", "alias.service.consul. 0 CNAME outside.example.org."},
		{"inner.service.consul.", "A", "inner.service.consul. 0 CNAME web.service.consul.\nweb.service.consul. 10 A 10.0.0.1"},
		{"inner.service.consul.", "ANY", "inner.service.consul. 0 CNAME web.service.consul.\nweb.service.consul. 10 A 10.0.0.1\nweb.service.consul. 10 AAAA fd00::2"},
		{"loop.service.consul.", "A", "loop.service.consul. 0 CNAME loop.service.consul."},
		{"named.node.consul.", "A", "named.node.consul. 5 CNAME host.example.org."},
		{"named.node.consul.", "TXT", `named.node.consul. 5 TXT "a=b"`},
		{"hosted.service.consul.", "A", "hosted.service.consul. 0 CNAME host.example.org."},

		// nodes
		{"node1.node.consul.", "A", "node1.node.consul. 5 A 10.0.0.1\n+ node1.node.consul. 5 TXT \"plain\"\n+ node1.node.consul. 5 TXT \"rack=r1\""},
		{"NODE1.node.dc1.consul.", "ANY", "NODE1.node.dc1.consul. 5 A 10.0.0.1\nNODE1.node.dc1.consul. 5 TXT \"plain\"\nNODE1.node.dc1.consul. 5 TXT \"rack=r1\""},
		{"node1.node.consul.", "TXT", "node1.node.consul. 5 TXT \"plain\"\nnode1.node.consul. 5 TXT \"rack=r1\""},
		{"node1.node.consul.", "AAAA", "+ node1.node.consul. 5 TXT \"plain\"\n+ node1.node.consul. 5 TXT \"rack=r1\""},
		{"node1.node.consul.", "MX", ""},
		{"node1.node.consul.", "SRV", ""},
		{"n.two.node.consul.", "AAAA", "n.two.node.consul. 5 AAAA fd00::2"},
		{"far.node.dc2.dc.consul.", "A", "far.node.dc2.dc.consul. 5 A 10.2.0.1"},
		{"none.node.consul.", "A", nx},
		{"node1.node.dc9.consul.", "A", nx},

		// addresses
		{"0A000001.addr.consul.", "A", "0A000001.addr.consul. 5 A 10.0.0.1"},
		{"0a000001.addr.dc1.consul.", "ANY", "0a000001.addr.dc1.consul. 5 A 10.0.0.1"},
		{"0a000001.addr.consul.", "AAAA", "+ 0a000001.addr.consul. 5 A 10.0.0.1"},
		{"fd000000000000000000000000000007.addr.consul.", "AAAA", "fd000000000000000000000000000007.addr.consul. 5 AAAA fd00::7"},
		{"0a0000.addr.consul.", "A", nx},
		{"zz000001.addr.consul.", "A", nx},

		// the domain itself
		{"consul.", "SOA", "consul. SOA\nns consul. 5 NS node1.node.dc1.consul.\n+ node1.node.dc1.consul. 5 A 10.0.0.1"},
		{"a.b.consul.", "NS", "consul. 5 NS node1.node.dc1.consul.\n+ node1.node.dc1.consul. 5 A 10.0.0.1"},
		{"consul.service.consul.", "A", "consul.service.consul. 0 A 10.0.0.1"},
		{"consul.", "A", nx}, {"service.consul.", "A", nx}, {"node.consul.", "ANY", nx}, {"ns.consul.", "A", nx}, {"web.consul.", "A", nx},
		{"web.connect.consul.", "A", nx}, {"web.ingress.consul.", "A", nx}, {"web.query.consul.", "A", nx}, {"web.virtual.consul.", "A", ""},

		// the other domain
		{"web.service.alt.example.", "A", "web.service.alt.example. 10 A 10.0.0.1"},
		{"v2.web.service.alt.example.", "SRV", "v2.web.service.alt.example. 10 SRV 1 3 81 n.two.node.dc1.alt.example.\n+ n.two.node.dc1.alt.example. 10 AAAA fd00::2"},
		{"none.service.alt.example.", "A", "NXDOMAIN\nns alt.example. SOA"},
		{"alt.example.", "NS", "alt.example. 5 NS node1.node.dc1.alt.example.\n+ node1.node.dc1.alt.example. 5 A 10.0.0.1"},

		// reverse
		{"1.0.0.10.in-addr.arpa.", "PTR", "1.0.0.10.in-addr.arpa. 0 PTR node1.node.dc1.consul."},
		{"1.0.0.10.IN-ADDR.arpa.", "A", "1.0.0.10.IN-ADDR.arpa. 0 PTR node1.node.dc1.consul."},
		{"7.0.0.10.in-addr.arpa.", "PTR", "7.0.0.10.in-addr.arpa. 0 PTR own.service.dc1.consul."},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", "PTR",
			"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 0 PTR n.two.node.dc1.consul."},
		{"8.8.8.8.in-addr.arpa.", "PTR", nx},
		{"10.in-addr.arpa.", "PTR", nx},
		{"1.2.3.x.in-addr.arpa.", "PTR", nx},

		// not ours
		{"example.org.", "A", "REFUSED"},
		{"notconsul.", "A", "REFUSED"},
		{"a\\.consul.", "A", "REFUSED"}, // one label that looks like two
		{"web.service.consul.", "AXFR", "NOTIMP"},
	} {
		s := New(testConfig(testCatalog()))
		for _, network := range []string{"udp", "tcp"} {
			resp := ask(t, s, c.name, c.qtype, network)
			if got := show(resp); got != c.want {
				t.Errorf("%s %s over %s:\n%s\nwant:\n%s", c.name, c.qtype, network, got, c.want)
			}
			if want := resp.Rcode == wire.RcodeSuccess || resp.Rcode == wire.RcodeNameError; resp.Authoritative != want {
				t.Errorf("%s %s: aa is %v", c.name, c.qtype, resp.Authoritative)
			}
			if resp.Truncated || resp.RecursionAvailable {
				t.Errorf("%s %s: tc %v, ra %v", c.name, c.qtype, resp.Truncated, resp.RecursionAvailable)
			}
		}
	}
}

func TestKnobs(t *testing.T) {
	for name, c := range map[string]struct {
		set         func(*Config)
		host, qtype string
		want        string
	}{
		"only passing":      {func(c *Config) { c.OnlyPassing = true }, "web.service.consul.", "ANY", "web.service.consul. 10 A 10.0.0.1"},
		"no metadata":       {func(c *Config) { c.NodeMetaTXT = false }, "node1.node.consul.", "A", "node1.node.consul. 5 A 10.0.0.1"},
		"metadata asked":    {func(c *Config) { c.NodeMetaTXT = false }, "named.node.consul.", "TXT", `named.node.consul. 5 TXT "a=b"`},
		"translated":        {func(c *Config) { c.TranslateWAN = true }, "web.service.dc2.consul.", "A", "web.service.dc2.consul. 10 A 9.9.9.9"},
		"translated node":   {func(c *Config) { c.TranslateWAN = true }, "far.node.dc2.consul.", "A", "far.node.dc2.consul. 5 A 9.9.9.9"},
		"translated tagged": {func(c *Config) { c.TranslateWAN = true }, "tagged.service.dc2.consul.", "SRV", "tagged.service.dc2.consul. 0 SRV 1 10 8080 08080808.addr.dc2.consul.\n+ 08080808.addr.dc2.consul. 0 A 8.8.8.8"},
		"not at home":       {func(c *Config) { c.TranslateWAN = true }, "web.service.consul.", "A", "web.service.consul. 10 A 10.0.0.1"},
		"domain":            {func(c *Config) { c.Domain = "My.Cluster" }, "web.service.my.cluster.", "A", "web.service.my.cluster. 10 A 10.0.0.1"},
		"nested domains":    {func(c *Config) { c.AltDomain = "dc7.consul" }, "web.service.dc7.consul.", "A", "web.service.dc7.consul. 10 A 10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(testCatalog())
			c.set(&cfg)
			if got := show(ask(t, New(cfg), c.host, c.qtype, "udp")); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestFailedLookupIsServfail(t *testing.T) {
	c := testCatalog()
	c.err = errors.New("no cluster leader")
	s := New(testConfig(c))
	for _, name := range []string{"web.service.consul.", "node1.node.consul.", "1.0.0.10.in-addr.arpa.", "none.service.consul."} {
		resp := ask(t, s, name, "A", "udp")
		if got := show(resp); got != "SERVFAIL" || resp.Authoritative {
			t.Errorf("%s: %s, aa %v", name, got, resp.Authoritative)
		}
	}
	if got := show(ask(t, s, "consul.", "NS", "udp")); got != "SERVFAIL" {
		t.Errorf("NS: %s", got)
	}
}

func TestReload(t *testing.T) {
	cfg := testConfig(testCatalog())
	s := New(cfg)
	cfg.ServiceTTL = map[string]time.Duration{"*": time.Minute}
	s.Reload(cfg)
	if got := show(ask(t, s, "web.service.consul.", "A", "udp")); got != "web.service.consul. 60 A 10.0.0.1" {
		t.Error(got)
	}
}

func TestShuffled(t *testing.T) {
	c := &catalog{}
	for i := range 3 {
		c.addService(c.addNode(fmt.Sprint("n", i), "dc1", fmt.Sprint("10.0.0.", i), nil), "web", "", 80, "passing")
	}
	s := New(testConfig(c))
	first := map[string]int{}
	for range 200 {
		first[ask(t, s, "web.service.consul.", "A", "udp").Answer[0].(*wire.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("every instance must come first at times: %v", first)
	}
}

func TestMalformed(t *testing.T) {
	s := New(testConfig(testCatalog()))
	client := netip.MustParseAddr("127.0.0.1")
	if resp := s.Handle(t.Context(), &wire.Msg{MsgHdr: wire.MsgHdr{Response: true}}, "udp", client); resp != nil {
		t.Error("answers are not answered")
	}
	if resp := s.Handle(t.Context(), &wire.Msg{}, "udp", client); resp.Rcode != wire.RcodeFormatError {
		t.Errorf("no question: %v", resp)
	}
	two := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA)
	two.Question = append(two.Question, two.Question[0])
	if resp := s.Handle(t.Context(), two, "udp", client); resp.Rcode != wire.RcodeFormatError {
		t.Errorf("two questions: %v", resp)
	}
	update := new(wire.Msg).SetUpdate("consul.")
	if resp := s.Handle(t.Context(), update, "udp", client); resp.Rcode != wire.RcodeNotImplemented {
		t.Errorf("update: %v", resp)
	}
	version := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA).SetEdns0(4096, false)
	version.IsEdns0().SetVersion(1)
	if resp := s.Handle(t.Context(), version, "udp", client); resp.Rcode != wire.RcodeBadVers || resp.IsEdns0() == nil {
		t.Errorf("EDNS version 1: %v", resp)
	}
}

// TestPanicIsAnswered: a fault of ours costs one question, not the agent.
func TestPanicIsAnswered(t *testing.T) {
	s := New(testConfig(nil)) // no Lookup
	if got := show(ask(t, s, "web.service.consul.", "A", "udp")); got != "SERVFAIL" {
		t.Error(got)
	}
}

func TestMetaRecords(t *testing.T) {
	long := strings.Repeat("x", 600)
	for _, c := range []struct{ key, value, want string }{
		{"a", "b", "a=b"}, {"a=b", "c", "a`=b=c"}, {"a`b", "c", "a``b=c"}, {" a ", "c", "` a` =c"}, {"a b", "c", "a b=c"},
		{"rfc1035-x", "c", "c"}, {"RFC1035-x", "c=d", "c=d"}, {"q", `"\`, `q=\"\\`}, {"l", long, "l=" + long},
	} {
		rrs := metaRecords("n.", map[string]string{c.key: c.value}, 0)
		if got := strings.Join(rrs[0].(*wire.TXT).Txt, ""); got != c.want {
			t.Errorf("%q=%q: got %q, want %q", c.key, c.value, got, c.want)
		}
		if _, err := wire.PackRR(rrs[0], make([]byte, 2000), 0, nil, false); err != nil {
			t.Errorf("%q: %v", c.key, err)
		}
	}
}
