package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// Random bytes on every port of a server, and connections that say nothing at
// all, leave it up and answering while they go on, and change nothing.
func TestNoiseOnEveryPort(t *testing.T) {
	c := harness.New(t)
	c.Bin = harness.RaceBin(t)
	c.Launch(1, 1)
	s, via := c.Agents[0], c.Agent("c1")
	settle(c)
	s.PutKey("kept", "yes")
	before := everything(s)

	ctx, cancel := context.WithCancel(t.Context())
	var noise sync.WaitGroup
	for i, port := range []string{"8500", "8600", "8300", "8301"} {
		for _, network := range []string{"tcp", "udp"} {
			if network == "udp" && (port == "8500" || port == "8300") {
				continue
			}
			noise.Go(func() { shout(ctx, network, s.IP+":"+port, uint64(i)) })
		}
		for range 10 { // and some that only hold the line
			conn, err := net.Dial("tcp", s.IP+":"+port)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
	}
	for _, proto := range []string{"h2", "raft", ""} {
		noise.Go(func() { shoutTLS(ctx, s.IP+":8300", proto) })
	}
	// Meanwhile requests are answered, through the client agent too.
	for i := range 100 {
		key := fmt.Sprintf("meanwhile/%d", i)
		via.AwaitPutKey(key, "x")
		if got := s.GetKey(key, nil); got != "x" {
			t.Fatalf("read %q", got)
		}
		if err := askDNS(s.IP+":8600", "s1.node.consul."); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	cancel()
	noise.Wait()
	ask(via, "DELETE", "/v1/kv/meanwhile/?recurse", "")
	if after := everything(s); after != before {
		t.Errorf("the noise changed something:\n%s\n%s", before, after)
	}
	for _, a := range c.Agents {
		if status, err := via.NodeStatus(t.Context(), a.Name); err != nil || status != api.HealthPassing {
			t.Errorf("%s is %s, %v", a.Name, status, err)
		}
		if log, err := os.ReadFile(a.LogPath()); err != nil || strings.Contains(string(log), "panic") {
			t.Errorf("%s panicked somewhere, or %v", a.Name, err)
		}
	}
	for _, a := range []*agent{via, s} {
		a.Signal(syscall.SIGTERM)
		if code := a.Exit(); code != 0 {
			t.Errorf("%s ends with %d (66 is a race)", a.Name, code)
		}
	}
}

// shout sends random bytes, some of which begin like something sensible.
func shout(ctx context.Context, network, addr string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, uint64(len(network))))
	beginnings := []string{"", "GET /v1/kv/", "PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x1d\x12\x34\x01\x00\x00\x01", "\x00", "\x03", "\x06", "\x08", "\x09", "\x0a", "\xf4"}
	for ctx.Err() == nil {
		conn, err := net.DialTimeout(network, addr, 5*time.Second)
		if err != nil {
			continue
		}
		junk := make([]byte, rnd.IntN(3000))
		for i := range junk {
			junk[i] = byte(rnd.Uint32())
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = conn.Write(append([]byte(beginnings[rnd.IntN(len(beginnings))]), junk...))
		_, _ = conn.Read(junk[:len(junk):len(junk)])
		_ = conn.Close()
	}
}

// shoutTLS does so after a handshake, as one protocol of the server port.
func shoutTLS(ctx context.Context, addr, proto string) {
	rnd := rand.New(rand.NewPCG(uint64(len(proto)), 7))
	conf := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // noise needs no trust
	if proto != "" {
		conf.NextProtos = []string{proto}
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: conf}
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // refused, as it should be
			}
			continue
		}
		junk := make([]byte, 1+rnd.IntN(3000))
		for i := range junk {
			junk[i] = byte(rnd.Uint32())
		}
		if proto == "raft" { // for anybody, and one of its kinds of messages
			junk = append([]byte{0, byte(rnd.IntN(6))}, junk...)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = conn.Write(junk)
		_, _ = conn.Read(junk)
		_ = conn.Close()
	}
}

// askDNS looks a name up by TCP.
func askDNS(addr, name string) error {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := r.LookupHost(ctx, name)
	return err
}
