package cluster

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// Whoever waits for events costs nothing once he has his answer or has hung up:
// many wait, are answered, and half of them come back over a new connection, again
// and again, while the agent's memory stays what it was.
func TestFaultEventPollersLeakNothing(t *testing.T) {
	pollers, times := rounds(300, 10_000), rounds(20, 100)
	c := harness.Start(t, 1, 0, "-log-level=warn", "-hcl=limits { http_max_conns_per_client = 16000 }")
	s := c.Agents[0]
	payload := make([]byte, 60)
	for range 300 { // the ring is full, so that an answer has its full size
		fire(s, "x", string(payload))
	}
	all := make([]*poller, pollers)
	for i := range all {
		all[i] = &poller{addr: s.IP + ":8500", index: "1"}
	}
	defer func() {
		for _, p := range all {
			p.hangUp()
		}
	}()
	settled := 0
	for round := range times {
		var asked sync.WaitGroup
		for i, p := range all {
			asked.Go(func() {
				if (i+round)%2 > 0 {
					p.leave() // in the middle of a wait
				}
				if err := p.poll(); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		asked.Go(func() {
			time.Sleep(20 * time.Millisecond) // most wait by then; who comes later is answered at once
			fire(s, "x", fmt.Sprint(round)+string(payload[:50]))
		})
		asked.Wait()
		if t.Failed() {
			t.FailNow()
		}
		if kb := memoryKB(s, "VmRSS"); round == times/2 {
			settled = kb
		}
	}
	end := memoryKB(s, "VmRSS")
	t.Logf("%d polls by %d: %d MB at half time, %d MB at the end", pollers*times, pollers, settled>>10, end>>10)
	if end > settled+settled/5+16<<10 { // the garbage collector's own ups and downs
		t.Errorf("memory grew from %d to %d KB", settled, end)
	}
}

// poller holds one connection.
type poller struct {
	addr  string
	index string
	conn  net.Conn
	in    *bufio.Reader
}

func (p *poller) ask() error {
	if p.conn == nil {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			return err
		}
		p.conn, p.in = conn, bufio.NewReader(conn)
	}
	_, err := fmt.Fprintf(p.conn, "GET /v1/event/list?name=x&wait=60s&index=%s HTTP/1.1\r\nHost: x\r\n\r\n", p.index)
	return err
}

func (p *poller) poll() error {
	if err := p.ask(); err != nil {
		return err
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %w", resp.Status, err)
	}
	p.index = resp.Header.Get(api.HeaderIndex)
	return nil
}

// leave asks and hangs up without waiting for the answer.
func (p *poller) leave() {
	_ = p.ask()
	p.hangUp()
}

func (p *poller) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn, p.in = nil, nil
	}
}
