package cluster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// subscriber holds one connection with one subscription on it.
type subscriber struct {
	conn   net.Conn
	frames *json.Decoder
	have   map[string]api.SubscribedResult
	got    int // frames that told something
}

func subscribeTo(addr string, paths ...string) (*subscriber, error) {
	var sub api.Subscription
	for _, p := range paths {
		sub.Queries = append(sub.Queries, api.SubscribedQuery{ID: p, Path: p})
	}
	body, err := json.Marshal(sub)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &subscriber{conn: conn, have: map[string]api.SubscribedResult{}}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", api.SubscribePath, len(body), body); err != nil {
		return s, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return s, err
	}
	s.frames = json.NewDecoder(resp.Body)
	return s, s.next()
}

// next takes one frame.
func (s *subscriber) next() error {
	_ = s.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var f api.Frame
	if err := s.frames.Decode(&f); err != nil {
		return err
	}
	if f.Error != "" {
		return fmt.Errorf("the stream ended: %s", f.Error)
	}
	if len(f.Results) > 0 {
		s.got++
	}
	for _, r := range f.Results {
		s.have[r.ID] = r
	}
	return nil
}

// cpu is the time that an agent has run for.
func cpu(a *agent) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.Process().Pid()))
	if err != nil {
		a.C.T.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Many subscribers of one key, each of whom follows something of its own, too:
// all get the last of many quick writes, in fewer frames than there are writes,
// and for writes to anything else none gets any.
func TestManySubscribers(t *testing.T) {
	n, writes := rounds(500, 9_000), 20
	c := harness.Start(t, 1, 0, "-log-level=warn", "-hcl=limits { http_max_conns_per_client = 16000 }")
	a := c.Agents[0]
	a.PutKey("hot", "0")
	empty := memoryKB(a, "VmRSS")
	all := make([]*subscriber, n)
	defer func() {
		for _, s := range all {
			if s != nil {
				_ = s.conn.Close()
			}
		}
	}()
	each := func(what string, do func(i int) error) {
		t.Helper()
		var busy sync.WaitGroup
		for i := range n {
			busy.Go(func() {
				if err := do(i); err != nil {
					t.Errorf("%s %d: %v", what, i, err)
				}
			})
		}
		if busy.Wait(); t.Failed() {
			t.FailNow()
		}
	}
	const hot = "/v1/kv/hot?raw"
	slots := make(chan struct{}, 64)
	each("subscribe", func(i int) (err error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		all[i], err = subscribeTo(a.Addr(), hot, fmt.Sprint("/v1/kv/own/", i))
		return err
	})
	parked := memoryKB(a, "VmRSS")

	began, before := time.Now(), cpu(a)
	for i := 1; i <= writes; i++ {
		a.PutKey("hot", fmt.Sprint(i))
	}
	wrote := time.Since(began)
	last, _ := json.Marshal(fmt.Append(nil, writes)) // ?raw: the value, in base64
	each("follow", func(i int) error {
		for !bytes.Equal(all[i].have[hot].Body, last) {
			if err := all[i].next(); err != nil {
				return err
			}
		}
		return nil
	})
	took, spent, frames := time.Since(began), cpu(a)-before, 0
	for _, s := range all {
		frames += s.got - 1
		s.got = 0
	}
	t.Logf("%d subscribers: %d KB each; %d writes took %v, the last subscriber had the last of them after %v: %d frames, %v CPU each",
		n, (parked-empty)/n, writes, wrote.Round(time.Millisecond), took.Round(time.Millisecond), frames, (spent / time.Duration(max(frames, 1))).Round(time.Microsecond))
	if frames > n*writes {
		t.Errorf("%d frames for %d writes to %d subscribers", frames, writes, n)
	}
	if end := memoryKB(a, "VmRSS"); end > parked+parked/2+16<<10 {
		t.Errorf("memory grew from %d to %d KB", parked, end)
	}

	before = cpu(a)
	for i := range 200 {
		a.PutKey("unrelated", fmt.Sprint(i))
	}
	t.Logf("200 writes of something else: %v CPU each", ((cpu(a) - before) / 200).Round(time.Microsecond))
	a.PutKey("hot", "end")
	each("follow", func(i int) error {
		for string(all[i].have[hot].Body) != `"ZW5k"` {
			if err := all[i].next(); err != nil {
				return err
			}
		}
		if all[i].got != 1 {
			return fmt.Errorf("%d frames for one write to what it follows", all[i].got)
		}
		return nil
	})
}
