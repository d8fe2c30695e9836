package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/retry"
)

// proxy says which backends HAProxy serves.
type proxy interface {
	verb() string // for the timeline, before what servers returns
	servers(ctx context.Context) ([]string, error)
	show(w io.Writer) error
}

// live asks a running HAProxy, by its statistics page.
type live struct{ addr string }

func (live) verb() string { return "HAProxy serves" }

func (l live) servers(ctx context.Context) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.addr+"/;csv", nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // the process that answers changes with each reload
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	rows := csv.NewReader(resp.Body)
	rows.FieldsPerRecord = -1
	all, err := rows.ReadAll()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, row := range all {
		if len(row) > 1 && row[0] == "web" && row[1] != "BACKEND" && row[1] != "FRONTEND" {
			names = append(names, instance(row[1]))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (l live) show(io.Writer) error { return nil }

// rendered reads the file that HAProxy would read.
type rendered struct{ path string }

func (rendered) verb() string { return "haproxy.cfg names" }

func (r rendered) servers(context.Context) ([]string, error) {
	data, err := os.ReadFile(r.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s+server (\S+)`).FindAllSubmatch(data, -1) {
		names = append(names, instance(string(m[1])))
	}
	slices.Sort(names)
	return names, nil
}

func (r rendered) show(w io.Writer) error {
	data, err := os.ReadFile(r.path)
	if err == nil {
		_, err = fmt.Fprintf(w, "\n%s\n", data)
	}
	return err
}

// instance is the id in a server's name, which begins with the node's: here ids differ.
func instance(server string) string {
	if at := strings.Index(server, "web-"); at > 0 {
		return server[at:]
	}
	return server
}

// traffic requests the page from HAProxy repeatedly, each time on a new connection, and
// records the results.
type traffic struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	sent   []request
}

type request struct {
	begun time.Time
	err   error
}

const (
	clients  = 4
	interval = 5 * time.Millisecond
)

func startTraffic(ctx context.Context, addr string) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cancel: cancel}
	client := &http.Client{
		Timeout: 3 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: time.Second}).DialContext,
		},
	}
	for range clients {
		t.done.Go(func() {
			for retry.Sleep(ctx, interval) == nil {
				begun := time.Now()
				err := get(ctx, client, "http://"+addr+"/")
				if ctx.Err() != nil {
					return
				}
				t.mu.Lock()
				t.sent = append(t.sent, request{begun, err})
				t.mu.Unlock()
			}
		})
	}
	return t
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

func (t *traffic) stop() {
	t.cancel()
	t.done.Wait()
}

// tally counts requests, and keeps one failure to show.
type tally struct {
	sent, failed int
	example      error
}

func (t tally) String() string {
	if t.failed == 0 {
		return fmt.Sprintf("%d, none failed", t.sent)
	}
	return fmt.Sprintf("%d, %d failed (%v)", t.sent, t.failed, t.example)
}

func (t *traffic) between(from, to time.Time) tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out tally
	for _, r := range t.sent {
		if r.begun.Before(from) || !r.begun.Before(to) {
			continue
		}
		out.sent++
		if r.err != nil {
			out.failed++
			out.example = r.err
		}
	}
	return out
}
