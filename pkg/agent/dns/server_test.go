package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/pkg/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server until the test ends and returns its address.
func start(t *testing.T, cfg Config) string {
	t.Helper()
	cfg.Addrs = []string{"127.0.0.1:0"}
	s := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	addrs, err := s.Addrs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// exchange asks again after two seconds, as resolvers do: the kernel drops UDP packets when
// the socket's buffer is full.
func exchange(t *testing.T, network, addr string, req *wire.Msg) (resp *wire.Msg) {
	t.Helper()
	client := wire.Client{Net: network, Timeout: 2 * time.Second}
	err := os.ErrDeadlineExceeded
	for tries := 0; tries < 10 && errors.Is(err, os.ErrDeadlineExceeded); tries++ {
		resp, _, err = client.Exchange(req, addr)
	}
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return resp
}

func TestLive(t *testing.T) {
	addr := start(t, testConfig(manyInstances(5000)))
	req := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA)
	if resp := exchange(t, "udp", addr, req); len(resp.Answer) != 3 || !resp.Truncated || !resp.Authoritative {
		t.Errorf("udp: %d answers, tc %v", len(resp.Answer), resp.Truncated)
	}
	if resp := exchange(t, "tcp", addr, req); len(resp.Answer) < 4000 || !resp.Truncated {
		t.Errorf("tcp: %d answers, tc %v", len(resp.Answer), resp.Truncated)
	}
	if resp := exchange(t, "udp", addr, req.Copy().SetEdns0(1232, false)); len(resp.Answer) < 60 || !resp.Truncated {
		t.Errorf("udp with EDNS: %d answers, tc %v", len(resp.Answer), resp.Truncated)
	}
}

// TestNoise: random bytes on both transports; the server still answers.
func TestNoise(t *testing.T) {
	addr := start(t, testConfig(testCatalog()))
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	udp, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for i := range 500 {
		if _, err := udp.Write(noise(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		tcp, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		body := noise(i * 50)
		if i%2 == 0 { // a plausible length
			body = append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
		}
		_, _ = tcp.Write(body)
		_ = tcp.Close()
	}
	req := new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA)
	for _, network := range []string{"udp", "tcp"} {
		if resp := exchange(t, network, addr, req); len(resp.Answer) != 1 {
			t.Errorf("%s after noise: %v", network, resp)
		}
	}
}

func TestPortInUse(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		var taken io.Closer
		var addr string
		if network == "udp" {
			c, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			taken, addr = c, c.LocalAddr().String()
		} else {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			taken, addr = l, l.Addr().String()
		}
		cfg := testConfig(testCatalog())
		cfg.Addrs = []string{"127.0.0.1:0", addr}
		err := New(cfg).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "ports.dns") {
			t.Errorf("%s: %v", network, err)
		}
		_ = taken.Close()
	}
}

// slow is a Lookup that blocks until its context ends.
type slow struct {
	catalog
	waiting chan struct{}
}

func (s *slow) ServiceInstances(ctx context.Context, _, _ string, _ []string) ([]*api.CheckServiceNode, error) {
	s.waiting <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestRunEndsWithQuestionsUnderWay: a lookup that hangs does not keep Run, and
// its client still gets an answer.
func TestRunEndsWithQuestionsUnderWay(t *testing.T) {
	lookup := &slow{waiting: make(chan struct{}, 1)}
	cfg := testConfig(lookup)
	cfg.Addrs = []string{"127.0.0.1:0"}
	s := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	addrs, err := s.Addrs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var asked errgroup.Group
	asked.Go(func() error {
		client := wire.Client{Net: "tcp", Timeout: 10 * time.Second}
		resp, _, err := client.Exchange(new(wire.Msg).SetQuestion("web.service.consul.", wire.TypeA), addrs[0])
		if err == nil && resp.Rcode != wire.RcodeServerFailure {
			err = errors.New(resp.String())
		}
		return err
	})
	<-lookup.waiting
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := asked.Wait(); err != nil {
		t.Errorf("question: %v", err)
	}
}

// recursor is a second, real DNS server.
func recursor(t *testing.T, handle func(w wire.ResponseWriter, r *wire.Msg)) string {
	t.Helper()
	socket, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for _, server := range []*wire.Server{{PacketConn: socket.udp}, {Listener: socket.tcp}} {
		started := make(chan struct{})
		server.Handler, server.NotifyStartedFunc = wire.HandlerFunc(handle), func() { close(started) }
		group.Go(server.ActivateAndServe)
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return socket.udp.LocalAddr().String()
}

func answering(text string, asked *atomic.Int32) func(wire.ResponseWriter, *wire.Msg) {
	return func(w wire.ResponseWriter, r *wire.Msg) {
		asked.Add(1)
		m := new(wire.Msg).SetReply(r)
		if text == "" {
			m.Rcode = wire.RcodeServerFailure
		}
		for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
			if rr, err := wire.NewRR(line); err == nil && rr != nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		m.Truncated = strings.HasPrefix(r.Question[0].Name, "cut.")
		if strings.HasPrefix(r.Question[0].Name, "gone.") {
			m.Rcode, m.Answer = wire.RcodeNameError, nil
		}
		if w.RemoteAddr().Network() == "tcp" {
			m.Answer = append(m.Answer, &wire.A{Hdr: header("tcp.", wire.TypeA, 0), A: net.IPv4(7, 7, 7, 7)})
		}
		_ = w.WriteMsg(m)
	}
}

func TestRecursors(t *testing.T) {
	var bad, good atomic.Int32
	failing := recursor(t, answering("", &bad))
	working := recursor(t, answering("x.example.org. 60 IN A 1.2.3.4", &good))
	cfg := testConfig(testCatalog())
	cfg.Recursors = []string{failing, working}
	s := New(cfg)

	resp := ask(t, s, "x.example.org.", "A", "udp")
	if got := show(resp); got != "x.example.org. 60 A 1.2.3.4" || !resp.RecursionAvailable || resp.Authoritative {
		t.Errorf("got %s", resp)
	}
	if bad.Load() != 1 || good.Load() != 1 {
		t.Errorf("in order: %d, %d", bad.Load(), good.Load())
	}
	if got := show(ask(t, s, "x.example.org.", "A", "tcp")); got != "tcp. 0 A 7.7.7.7\nx.example.org. 60 A 1.2.3.4" {
		t.Errorf("the same transport: %s", got)
	}
	if resp := ask(t, s, "cut.example.org.", "A", "udp"); !resp.Truncated {
		t.Error("a truncated answer is passed on as it is")
	}
	if got := show(ask(t, s, "gone.example.org.", "A", "udp")); got != "NXDOMAIN" {
		t.Errorf("NXDOMAIN is an answer: %s", got)
	}
	if got := show(ask(t, s, "8.8.8.8.in-addr.arpa.", "PTR", "udp")); got != "x.example.org. 60 A 1.2.3.4" {
		t.Errorf("unknown addresses are asked for: %s", got)
	}
	if got := show(ask(t, s, "1.0.0.10.in-addr.arpa.", "PTR", "udp")); got != "1.0.0.10.in-addr.arpa. 0 PTR node1.node.dc1.consul." {
		t.Errorf("known addresses are not: %s", got)
	}
	before := good.Load()
	if resp := ask(t, s, "none.service.consul.", "A", "udp"); show(resp) != nx || !resp.RecursionAvailable || good.Load() != before {
		t.Errorf("our own names are never asked for: %v", resp)
	}

	cfg.Recursors = []string{failing}
	s.Reload(cfg)
	req := new(wire.Msg).SetQuestion("x.example.org.", wire.TypeA).SetEdns0(1400, false)
	resp = s.Handle(t.Context(), req, "udp", netip.Addr{})
	if resp.Rcode != wire.RcodeServerFailure || !resp.RecursionAvailable || resp.IsEdns0() == nil {
		t.Errorf("all fail: %v", resp)
	}

	cfg.Recursors, cfg.RandomRecursor = []string{failing, working}, true
	s.Reload(cfg)
	before = bad.Load()
	for range 40 {
		ask(t, s, "x.example.org.", "A", "udp")
	}
	if n := bad.Load() - before; n == 0 || n == 40 {
		t.Errorf("in random order the first was asked %d of 40 times", n)
	}
}

func TestRecursorTimeout(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var asked atomic.Int32
	cfg := testConfig(testCatalog())
	cfg.Recursors = []string{silent.LocalAddr().String(), recursor(t, answering("x.example.org. 60 IN A 1.2.3.4", &asked))}
	cfg.RecursorTimeout = 50 * time.Millisecond
	if got := show(ask(t, New(cfg), "x.example.org.", "A", "udp")); got != "x.example.org. 60 A 1.2.3.4" {
		t.Error(got)
	}
}

// TestUpstreamIsBounded: past the limit a question fails at once.
func TestUpstreamIsBounded(t *testing.T) {
	cfg := testConfig(testCatalog())
	cfg.Recursors = []string{"127.0.0.1:1"}
	s := New(cfg)
	for range MaxUpstream {
		s.upstream <- struct{}{}
	}
	if got := show(ask(t, s, "x.example.org.", "A", "udp")); got != "SERVFAIL" {
		t.Error(got)
	}
}

func TestAliasesAreFollowedByRecursors(t *testing.T) {
	var asked atomic.Int32
	chain := "outside.example.org. 9 IN CNAME a.example.org.\na.example.org. 9 IN A 1.1.1.1\n"
	for _, ip := range []string{"1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6"} {
		chain += "a.example.org. 9 IN A " + ip + "\n"
	}
	cfg := testConfig(testCatalog())
	cfg.Recursors = []string{recursor(t, answering(chain, &asked))}
	cfg.UDPAnswerLimit = 8
	s := New(cfg)
	resp := ask(t, s, "alias.service.consul.", "A", "udp")
	if len(resp.Answer) != 1+maxChainRecords || resp.Answer[0].(*wire.CNAME).Target != "outside.example.org." || !resp.Authoritative {
		t.Errorf("without EDNS: %v", resp)
	}
	req := new(wire.Msg).SetQuestion("alias.service.consul.", wire.TypeA).SetEdns0(4096, false)
	if resp := s.Handle(t.Context(), req, "udp", netip.Addr{}); len(resp.Answer) != 1+7 {
		t.Errorf("with EDNS: %v", resp)
	}
	if resp := ask(t, s, "alias.service.consul.", "SRV", "tcp"); len(resp.Answer) != 1 || len(resp.Extra) < maxChainRecords {
		t.Errorf("SRV: %v", resp)
	}
	before := asked.Load()
	if resp := ask(t, s, "alias.service.consul.", "CNAME", "udp"); len(resp.Answer) != 1 || asked.Load() != before {
		t.Errorf("CNAME itself: %v", resp)
	}
}

// TestDeadRecursorsCostOneTimeout: not one for every target.
func TestDeadRecursorsCostOneTimeout(t *testing.T) {
	var asked atomic.Int32
	c := testCatalog()
	for _, host := range []string{"a.example.org", "b.example.org", "c.example.org"} {
		c.addService(c.nodes[0], "away", host, 80, "passing")
	}
	cfg := testConfig(c)
	cfg.Recursors = []string{recursor(t, answering("", &asked))}
	if resp := ask(t, New(cfg), "away.service.consul.", "SRV", "tcp"); len(resp.Answer) != 3 || asked.Load() != 1 {
		t.Errorf("%d answers, the recursor was asked %d times", len(resp.Answer), asked.Load())
	}
}

// TestRecursorsSeeIDsOfOurs: one that a client chose could be guessed by a forger.
func TestRecursorsSeeIDsOfOurs(t *testing.T) {
	var same atomic.Int32
	cfg := testConfig(testCatalog())
	cfg.Recursors = []string{recursor(t, func(w wire.ResponseWriter, r *wire.Msg) {
		if r.Id == 7 {
			same.Add(1)
		}
		_ = w.WriteMsg(new(wire.Msg).SetReply(r))
	})}
	s := New(cfg)
	for range 3 {
		req := new(wire.Msg).SetQuestion("x.example.org.", wire.TypeA)
		req.Id = 7
		if resp := s.Handle(t.Context(), req, "udp", netip.Addr{}); resp.Id != 7 {
			t.Errorf("the client's id is %d", resp.Id)
		}
	}
	if same.Load() == 3 {
		t.Error("the client's id was passed on")
	}
}

// FuzzHandle: whatever unpacks is answered without a panic, with something that
// packs and fits.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"web.service.consul.", "_web._tcp.consul.", "node1.node.dc1.consul.", "0a000001.addr.consul.", "1.0.0.10.in-addr.arpa.", ".", "a\\.b.node.consul."} {
		for _, qtype := range []uint16{wire.TypeA, wire.TypeSRV, wire.TypeANY, wire.TypeTXT, wire.TypeSOA} {
			data, err := new(wire.Msg).SetQuestion(name, qtype).SetEdns0(1232, true).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, qtype%2 == 0)
		}
	}
	s := New(testConfig(testCatalog()))
	f.Fuzz(func(t *testing.T, data []byte, tcp bool) {
		var req wire.Msg
		if req.Unpack(data) != nil {
			return
		}
		resp := s.Handle(t.Context(), &req, map[bool]string{true: "tcp", false: "udp"}[tcp], netip.Addr{})
		if resp == nil {
			return
		}
		if resp.Rcode == wire.RcodeServerFailure {
			t.Errorf("SERVFAIL for %v", &req)
		}
		if _, err := resp.Pack(); err != nil {
			t.Errorf("%v: %v", err, resp)
		}
	})
}
