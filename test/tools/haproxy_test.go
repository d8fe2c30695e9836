package tools

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

func needHAProxy(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err == nil {
		return
	}
	if _, err := os.Stat("/usr/sbin/haproxy"); err != nil {
		t.Skip("haproxy is not installed: apt-get install haproxy")
	}
}

// The main job, word for word, in a folder with the example's files.
func TestTheLine(t *testing.T) {
	needHAProxy(t)
	a := harness.Dev(t)
	f := a.Folder(t)
	for _, name := range []string{"haproxy.ctmpl", "reload"} {
		data, err := os.ReadFile("../../examples/haproxy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(name, string(data))
	}
	web, stats := strconv.Itoa(harness.Port(t)), strconv.Itoa(harness.Port(t))
	f.Env = append(f.Env, "WEB_PORT="+web, "STATS_PORT="+stats)
	proxy := haproxy{t: t, web: web, stats: stats}

	one := newBackend(a, "web-1")
	tool := f.Run("tmpl", "-template", "haproxy.ctmpl:haproxy.cfg", "-exec", "reload")
	proxy.awaitServers("web-1")
	if got := proxy.page(); got != "web-1" {
		t.Fatalf("HAProxy answers %q", got)
	}
	newBackend(a, "web-2")
	proxy.awaitServers("web-1", "web-2")
	one.Close() // its check finds out
	proxy.awaitServers("web-2")

	// A template that HAProxy refuses: the reload fails, tmpl says so and puts back
	// the file that HAProxy goes on with, again after new data.
	good := f.Read("haproxy.ctmpl")
	f.Write("haproxy.ctmpl", good+"\n    nonsense here\n")
	tool.Signal(syscall.SIGHUP)
	f.AwaitPart("log", "command failed, the files before are restored", "nonsense")
	restored := strings.Count(f.Read("log"), "the files before are restored")
	newBackend(a, "web-3")
	harness.Until(t, "new data are tried", func(context.Context) error {
		if n := strings.Count(f.Read("log"), "the files before are restored"); n <= restored {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	if got := proxy.page(); got != "web-2" {
		t.Errorf("HAProxy answers %q", got)
	}
	f.Write("haproxy.ctmpl", good)
	tool.Signal(syscall.SIGHUP)
	proxy.awaitServers("web-2", "web-3")

	// kill -9 of tmpl leaves the HAProxy that its command has started alone, once
	// that command has ended.
	harness.Until(t, "the last reload is done", func(context.Context) error {
		if last := harness.Tail(f.File("log"), 1); !strings.Contains(last, "command is done") {
			return errors.New(last)
		}
		return nil
	})
	tool.Signal(syscall.SIGKILL)
	tool.Exit()
	harness.Until(t, "nothing but HAProxy is left", func(context.Context) error {
		if n := len(harness.Running(f.Path)); n != 1 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	if got := proxy.page(); got != "web-2" && got != "web-3" {
		t.Errorf("HAProxy answers %q", got)
	}
}

// A file that HAProxy would refuse never stands at the destination.
func TestCheckByHAProxy(t *testing.T) {
	needHAProxy(t)
	a := harness.Dev(t)
	f := a.Folder(t)
	f.Env = append(f.Env, "PATH="+os.Getenv("PATH")+":/usr/sbin")
	f.Write("in", `global
    maxconn {{ key "maxconn" }}
listen web
    mode http
    bind unix@web.sock
    timeout connect 1s
    timeout client 1s
    timeout server 1s
`)
	args := []string{"-template", "in:haproxy.cfg:echo ran >>runs", "-check", "haproxy -c -f {path}"}
	a.AwaitPutKey("maxconn", "100")
	f.Run("tmpl", args...)
	f.AwaitText("runs", "ran\n")
	good := f.Read("haproxy.cfg")
	a.AwaitPutKey("maxconn", "100\n    nonsense")
	f.AwaitPart("log", "rejected, waiting for new data", "nonsense")
	if got := f.Read("haproxy.cfg"); got != good {
		t.Errorf("the refused file stands there: %s", got)
	}
	if code, _, stderr := f.Once("tmpl", append(args, "-once")...); code != 14 || !strings.Contains(stderr, "it is kept as it was") {
		t.Errorf("-once with a refused file: code %d, %s", code, stderr)
	}
	a.AwaitPutKey("maxconn", "200")
	f.AwaitText("runs", "ran\nran\n")
	f.AwaitPart("haproxy.cfg", "maxconn 200")
}

// newBackend is a web server that is registered with an HTTP check.
func newBackend(a *agent, id string) *httptest.Server {
	t := a.C.T
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, id) }))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ServiceRegister(t.Context(), &api.AgentServiceRegistration{
		Name: "web", ID: id, Address: u.Hostname(), Port: port,
		Check: &api.CheckDefinition{HTTP: server.URL, Interval: api.Duration(time.Second), Timeout: api.Duration(time.Second)},
	}); err != nil {
		t.Fatal(err)
	}
	return server
}

// haproxy is a running HAProxy, known by its ports.
type haproxy struct {
	t          *testing.T
	web, stats string
}

func (h haproxy) get(ctx context.Context, port, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // the process that answers changes with each reload
	return http.DefaultClient.Do(req)
}

// page is what a visitor gets.
func (h haproxy) page() string {
	h.t.Helper()
	resp, err := h.get(h.t.Context(), h.web, "/")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text [64]byte
	n, _ := resp.Body.Read(text[:])
	return string(text[:n])
}

// awaitServers waits until HAProxy itself says that it has these backends.
func (h haproxy) awaitServers(want ...string) {
	h.t.Helper()
	harness.Until(h.t, "HAProxy serves "+strings.Join(want, " "), func(ctx context.Context) error {
		resp, err := h.get(ctx, h.stats, "/;csv")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		rows := csv.NewReader(resp.Body)
		rows.FieldsPerRecord = -1
		all, err := rows.ReadAll()
		if err != nil {
			return err
		}
		var got []string
		for _, row := range all {
			if len(row) > 1 && row[0] == "web" && row[1] != "BACKEND" && row[1] != "FRONTEND" {
				got = append(got, strings.TrimPrefix(row[1], "dev-")) // the agent's node
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it serves %v", got)
		}
		return nil
	})
}
