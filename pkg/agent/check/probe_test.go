package check

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func look(t *testing.T, def api.CheckDefinition, o Options) (status, output string) {
	t.Helper()
	def.Interval = minute
	if o.OutputMax == 0 {
		o.OutputMax = api.MaxCheckOutput
	}
	if err := Validate(&def); err != nil {
		t.Fatal(err)
	}
	return New(&def, o, nil).(*poller).probe.run(t.Context())
}

func TestScript(t *testing.T) {
	for _, c := range []struct {
		script, status, output string
	}{
		{"echo DISK OK '| /=3MB;5;6'", "passing", "DISK OK | /=3MB;5;6\n"},
		{"echo low >&2; exit 1", "warning", "low\n"},
		{"echo full; exit 2", "critical", "full\n"},
		{"exit 3", "critical", ""},
		{"echo x; kill -KILL $$", "critical", "x\n"},
	} {
		status, output := look(t, api.CheckDefinition{ScriptArgs: []string{"sh", "-c", c.script}}, Options{})
		if status != c.status || output != c.output {
			t.Errorf("%s: %s %q, want %s %q", c.script, status, output, c.status, c.output)
		}
	}
	status, output := look(t, api.CheckDefinition{ScriptArgs: []string{"/no/such"}}, Options{})
	if status != "critical" || output != "fork/exec /no/such: no such file or directory" {
		t.Errorf("%s %q", status, output)
	}
}

func TestScriptIsNoShell(t *testing.T) {
	_, output := look(t, api.CheckDefinition{ScriptArgs: []string{"echo", "a; b", "$HOME"}}, Options{})
	if output != "a; b $HOME\n" {
		t.Errorf("output %q", output)
	}
}

func TestScriptOutputIsCapped(t *testing.T) {
	script := []string{"sh", "-c", "printf 0123456789"}
	for own, want := range map[int]string{0: "Captured 6 of 10 bytes\n...\n456789", 4: "Captured 4 of 10 bytes\n...\n6789", 100: "Captured 6 of 10 bytes\n...\n456789"} {
		if _, output := look(t, api.CheckDefinition{ScriptArgs: script, OutputMaxSize: own}, Options{OutputMax: 6}); output != want {
			t.Errorf("own limit %d: %q", own, output)
		}
	}
}

func TestScriptTimeoutKillsTheGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	status, output := look(t, api.CheckDefinition{
		ScriptArgs: []string{"sh", "-c", "sleep 1000 & echo $! > " + file + "; echo busy; wait"}, Timeout: api.Duration(time.Second),
	}, Options{})
	if status != "critical" || output != "Timed out (1s) running check\n\nbusy\n" {
		t.Errorf("%s %q", status, output)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	for give := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil {
			return
		}
		if time.Now().After(give) {
			t.Fatal("the script's child still runs")
		}
	}
}

func TestHTTP(t *testing.T) {
	type seen struct {
		*http.Request
		body string
	}
	requests := make(chan seen, 2) // a redirected check sends two
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		requests <- seen{r, string(data)}
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/created":
			w.WriteHeader(http.StatusCreated)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
			return
		case "/slow":
			<-r.Context().Done()
		}
		io.WriteString(w, "0123456789")
	}))
	defer srv.Close()
	for _, c := range []struct {
		def            api.CheckDefinition
		status, output string
	}{
		{api.CheckDefinition{HTTP: "/ok"}, "passing", "HTTP GET {}/ok: 200 OK Output: 0123456789"},
		{api.CheckDefinition{HTTP: "/created", Method: "POST", Body: "hi"}, "passing", "HTTP POST {}/created: 201 Created Output: 0123456789"},
		{api.CheckDefinition{HTTP: "/busy"}, "warning", "HTTP GET {}/busy: 429 Too Many Requests Output: 0123456789"},
		{api.CheckDefinition{HTTP: "/broken", OutputMaxSize: 3}, "critical", "HTTP GET {}/broken: 500 Internal Server Error Output: 789"},
		{api.CheckDefinition{HTTP: "/moved"}, "passing", "HTTP GET {}/moved: 200 OK Output: 0123456789"},
		{api.CheckDefinition{HTTP: "/moved", DisableRedirects: true}, "critical", "HTTP GET {}/moved: 302 Found Output: <a href=\"/ok\">Found</a>.\n\n"},
		{api.CheckDefinition{HTTP: "/slow", Timeout: api.Duration(50 * time.Millisecond)}, "critical",
			`Get "{}/slow": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`},
	} {
		c.def.HTTP = srv.URL + c.def.HTTP
		status, output := look(t, c.def, Options{})
		if want := strings.ReplaceAll(c.output, "{}", srv.URL); status != c.status || output != want {
			t.Errorf("%s %q, want %s %q", status, output, c.status, want)
		}
		if r := <-requests; c.def.Body != r.body {
			t.Errorf("sent body %q", r.body)
		}
		if strings.HasSuffix(c.def.HTTP, "/moved") && !c.def.DisableRedirects {
			<-requests
		}
	}
	look(t, api.CheckDefinition{HTTP: srv.URL, Header: map[string][]string{"Host": {"other"}, "X-A": {"1", "2"}}}, Options{})
	if last := <-requests; last.Host != "other" || len(last.Header["X-A"]) != 2 || last.UserAgent() != "Consul Health Check" || last.Header.Get("Accept") != "text/plain, text/*, */*" || last.Header.Get("Accept-Encoding") != "gzip" || !last.Close {
		t.Errorf("request %+v", last)
	}
}

func TestHTTPOverTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	if status, output := look(t, api.CheckDefinition{HTTP: srv.URL}, Options{}); status != "critical" || !strings.Contains(output, "certificate") {
		t.Errorf("%s %q", status, output)
	}
	if _, output := look(t, api.CheckDefinition{HTTP: srv.URL, TLSSkipVerify: true}, Options{}); !strings.Contains(output, "404 Not Found") {
		t.Errorf("%q", output)
	}
	addr := strings.TrimPrefix(srv.URL, "https://")
	if status, output := look(t, api.CheckDefinition{TCP: addr, TCPUseTLS: true, TLSSkipVerify: true}, Options{}); status != "passing" || output != "TCP+TLS connect "+addr+": Success" {
		t.Errorf("%s %q", status, output)
	}
}

func TestTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if status, output := look(t, api.CheckDefinition{TCP: addr}, Options{}); status != "passing" || output != "TCP connect "+addr+": Success" {
		t.Errorf("%s %q", status, output)
	}
	ln.Close()
	if status, output := look(t, api.CheckDefinition{TCP: addr}, Options{}); status != "critical" || output != "dial tcp "+addr+": connect: connection refused" {
		t.Errorf("%s %q", status, output)
	}
	if status, output := look(t, api.CheckDefinition{HTTP: "http://" + addr}, Options{}); status != "critical" ||
		output != fmt.Sprintf(`Get "http://%s": dial tcp %s: connect: connection refused`, addr, addr) {
		t.Errorf("%s %q", status, output)
	}
}

func TestUDP(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().String()
	def := api.CheckDefinition{UDP: addr, Timeout: api.Duration(100 * time.Millisecond)}
	silent := "UDP connect " + addr + ": Success"
	if status, output := look(t, def, Options{}); status != "passing" || output != silent {
		t.Errorf("silence: %s %q", status, output)
	}
	if n, _, err := conn.ReadFrom(make([]byte, 10)); n != 0 || err != nil {
		t.Errorf("received %d bytes, %v, want an empty datagram", n, err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if _, from, err := conn.ReadFrom(make([]byte, 10)); err == nil {
			_, _ = conn.WriteTo([]byte("pong"), from)
		}
	}()
	def.Timeout = minute
	if status, output := look(t, def, Options{}); status != "passing" || output != silent {
		t.Errorf("answer: %s %q", status, output)
	}
	<-answered
	conn.Close()
	if status, output := look(t, def, Options{}); status != "critical" || !strings.Contains(output, "refused") {
		t.Errorf("refused: %s %q", status, output)
	}
}
