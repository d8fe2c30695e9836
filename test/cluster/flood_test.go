package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

const (
	floodMemory  = 150 << 10 // KB that an agent may ever have needed
	floodLatency = 2 * time.Second
)

// One address holds 2,000 idle connections and 500 slow ones to all four ports,
// sends 10,000 requests that are too large and 20,000 packets of noise.
// Everybody else is served meanwhile, the agent stays small, and afterwards that
// address is served too.
func TestFloodFromOneAddress(t *testing.T) {
	c := harness.Start(t, 1, 1, "-log-level=info")
	s := c.Agents[0]
	settle(c)
	f := flood{t: t, from: net.ParseIP(c.Net + ".200"), to: s.IP}
	ctx, cancel := context.WithCancel(t.Context())
	others := make(chan []time.Duration, 1)
	go func() { others <- askOn(ctx, c) }()

	f.tooLarge(10_000)
	f.packets("8301", 10_000)
	f.packets("8600", 10_000)
	var slow sync.WaitGroup
	slow.Go(func() { f.slow(500, 3*time.Second) })
	f.idle(2000)
	slow.Wait()
	f.packets("8301", 2000)

	if status, err := c.Agent("c1").NodeStatus(t.Context(), "s1"); err != nil || status != api.HealthPassing {
		t.Errorf("amid it s1 is %s, %v", status, err)
	}
	cancel()
	took := <-others
	slices.Sort(took)
	if len(took) < 20 {
		t.Fatalf("others were served %d times only", len(took))
	}
	median, worst := took[len(took)/2], took[len(took)-1]
	t.Logf("others: %d rounds, median %v, worst %v; memory at most %d MB, %d connections were refused or closed",
		len(took), median, worst, peakKB(s)>>10, f.closed.Load())
	if worst > floodLatency {
		t.Errorf("others waited up to %v", worst)
	}
	if kb := peakKB(s); kb > floodMemory {
		t.Errorf("%s needed %d MB", s.Name, kb>>10)
	}
	f.hangUp()
	harness.Within(t, 10*time.Second, "the address is served again", func(ctx context.Context) error {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.IP+":8500/v1/status/leader", nil)
		tr := &http.Transport{DialContext: f.dialer().DialContext, DisableKeepAlives: true}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
	if log, err := os.ReadFile(s.LogPath()); err != nil || bytes.Contains(log, []byte("panic")) || len(log) > 1<<20 {
		t.Errorf("the log has %d bytes, or a panic in it, %v", len(log), err)
	}
}

// askOn does what users do, at the server and through the client, until ctx
// ends.
func askOn(ctx context.Context, c *cluster) (took []time.Duration) {
	s, via := c.Agents[0], c.Agent("c1")
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		via.PutKey("flood/a", strconv.Itoa(i))
		if got := s.GetKey("flood/a", nil); got != strconv.Itoa(i) {
			c.T.Errorf("read %q, want %d", got, i)
		}
		if err := askDNS(s.IP+":8600", "s1.node.consul."); err != nil {
			c.T.Errorf("DNS: %v", err)
		}
		took = append(took, time.Since(began))
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return took
}

// peakKB is the most memory that the process ever had.
func peakKB(a *agent) int { return memoryKB(a, "VmHWM") }

// memoryKB is a figure of the process's memory as the kernel has it.
func memoryKB(a *agent, what string) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Process().Pid()))
	if err != nil {
		a.C.T.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), what+":")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		a.C.T.Fatal(err)
	}
	return kb
}

// flood is what one address does to an agent.
type flood struct {
	t      *testing.T
	from   net.IP
	to     string
	mu     sync.Mutex
	held   []net.Conn
	closed atomic.Int32
}

var floodPorts = []string{"8500", "8600", "8300", "8301"}

func (f *flood) dialer() *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: f.from}, Timeout: 5 * time.Second}
}

// tooLarge sends requests whose headers or bodies are beyond every limit.
func (f *flood) tooLarge(count int) {
	big := strings.Repeat("x", 64<<10)
	var left atomic.Int32
	left.Store(int32(count))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				conn, err := f.dialer().Dial("tcp", f.to+":8500")
				if err != nil {
					f.closed.Add(1)
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				switch n % 3 {
				case 0:
					_, _ = fmt.Fprintf(conn, "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n%s", big)
				case 1:
					_, _ = fmt.Fprintf(conn, "GET /v1/kv/a?%s HTTP/1.1\r\nHost: x\r\nX: %s\r\n", big, big)
				default:
					_, _ = fmt.Fprintf(conn, "PUT /v1/txn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", 1<<30, big)
				}
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
}

func (f *flood) packets(port string, count int) {
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: f.from}}).Dial("udp", f.to+":"+port)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	rnd := rand.New(rand.NewPCG(1, uint64(count)))
	junk := make([]byte, 1400)
	for i := range count {
		for j := range junk[:32] {
			junk[j] = byte(rnd.Uint32())
		}
		if i%2 == 0 {
			junk[0] = byte(i % 13) // a kind of message
		}
		_, _ = conn.Write(junk[:1+rnd.IntN(len(junk))])
	}
}

func (f *flood) hold(port string) net.Conn {
	conn, err := f.dialer().Dial("tcp", f.to+":"+port)
	if err != nil {
		f.closed.Add(1)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = append(f.held, conn)
	return conn
}

// idle opens connections that say nothing.
func (f *flood) idle(count int) {
	for i := range count {
		f.hold(floodPorts[i%len(floodPorts)])
	}
}

// slow opens connections that say something sensible, a byte at a time.
func (f *flood) slow(count int, d time.Duration) {
	texts := map[string]string{
		"8500": "PUT /v1/kv/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"8600": "\x00\x1d\x12\x34\x01\x00\x00\x01",
		"8300": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"8301": "\x06\x83\xa5Nodes\xce\x00\x00\x10\x00",
	}
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			port := floodPorts[i%len(floodPorts)]
			conn := f.hold(port)
			for i := 0; conn != nil && time.Now().Before(end); i++ {
				if _, err := conn.Write([]byte{texts[port][i%len(texts[port])]}); err != nil {
					f.closed.Add(1)
					return
				}
				time.Sleep(100 * time.Millisecond) // what makes it slow
			}
		})
	}
	wg.Wait()
}

func (f *flood) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.held {
		_ = conn.Close()
	}
}
