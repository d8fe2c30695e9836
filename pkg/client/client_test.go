package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t *testing.T, cfg Config, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg.Address = s.Listener.Addr().String()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestKeysTravelUnharmed(t *testing.T) {
	var got string
	c := newClient(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Path
		io.WriteString(w, "true")
	})
	for _, key := range []string{"a", "a/b/", "with space", "50%", "what?", "#1", "ünï", "a+b", "a&b=c"} {
		if ok, err := c.KVPut(context.Background(), key, nil, KVWrite{}, nil); err != nil || !ok {
			t.Fatalf("%q: %v, %v", key, ok, err)
		}
		if want := "/v1/kv/" + key; got != want {
			t.Errorf("the server got %q, want %q", got, want)
		}
	}
}

func TestOptionsAndHeaders(t *testing.T) {
	var got *http.Request
	c := newClient(t, Config{Token: "secret", Datacenter: "dc1", UserAgent: "test/1"}, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set(api.HeaderIndex, "42")
		w.Header().Set(api.HeaderKnownLeader, "true")
		w.Header().Set(api.HeaderLastContact, "7")
		io.WriteString(w, "[]")
	})
	_, meta, err := c.Nodes(context.Background(), &Options{
		Stale: true, Index: 9, Wait: 90 * time.Second, Filter: `Node == "a"`, Near: "_agent", NodeMeta: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Meta{Index: 42, LastContact: 7 * time.Millisecond, KnownLeader: true}); meta != want {
		t.Errorf("meta %+v, want %+v", meta, want)
	}
	q := got.URL.Query()
	for name, want := range map[string]string{
		"stale": "", "index": "9", "wait": "90000ms", "filter": `Node == "a"`, "near": "_agent", "node-meta": "k:v", "dc": "dc1",
	} {
		if !q.Has(name) || q.Get(name) != want {
			t.Errorf("parameter %s is %q, want %q", name, q[name], want)
		}
	}
	if got.Header.Get(api.HeaderToken) != "secret" || strings.Contains(got.URL.RawQuery, "secret") {
		t.Error("the token must travel in its header and nowhere else")
	}
}

func TestErrorsKeepStatusAndText(t *testing.T) {
	c := newClient(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderIndex, "3")
		code := http.StatusInternalServerError
		if strings.HasSuffix(r.URL.Path, "/absent") {
			code = http.StatusNotFound
		}
		w.WriteHeader(code)
		io.WriteString(w, api.TextNoLeader)
	})
	_, meta, err := c.KVGet(context.Background(), "a", nil)
	var status *api.StatusError
	if !errors.As(err, &status) || status.Code != 500 || status.Text != api.TextNoLeader || meta.Index != 3 {
		t.Errorf("got %v, %+v", err, meta)
	}
	pair, meta, err := c.KVGet(context.Background(), "absent", nil)
	if pair != nil || err != nil || meta.Index != 3 {
		t.Errorf("an absent key: %v, %+v, %v; want nil, its index, nil", pair, meta, err)
	}
}

func TestUnreachableSaysWhatWasTried(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := New(Config{Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.StatusLeader(context.Background())
	if err == nil || !strings.Contains(err.Error(), "GET /v1/status/leader at http://"+l.Addr().String()) {
		t.Errorf("error %v does not say what was tried", err)
	}
}

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"":                      "http://127.0.0.1:8500",
		"10.0.0.1:80":           "http://10.0.0.1:80",
		"host":                  "http://host:8500",
		"https://host:8501":     "https://host:8501",
		"http://host/consul":    "http://host/consul",
		"unix:///run/muster.s":  "http://localhost",
		"ftp://host":            "error",
		"http://":               "error",
		"http://bad host:1":     "error",
		"http://127.0.0.1:port": "error",
	} {
		c, err := New(Config{Address: addr})
		switch {
		case want == "error" && err == nil:
			t.Errorf("%q: no error", addr)
		case want != "error" && err != nil:
			t.Errorf("%q: %v", addr, err)
		case err == nil && c.Address() != want:
			t.Errorf("%q: %s, want %s", addr, c.Address(), want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `"1.2.3.4:8300"`) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	c, err := New(Config{Address: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := c.StatusLeader(context.Background()); err != nil || leader != "1.2.3.4:8300" {
		t.Errorf("got %q, %v", leader, err)
	}
	c.CloseIdle()
	s.Close()
	<-done
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Token: "other", TokenFile: path})
	if err != nil || c.token != "secret" {
		t.Errorf("token %q, %v", c.token, err)
	}
	if _, err := New(Config{TokenFile: path + ".no"}); err == nil {
		t.Error("a token file that is missing is no error")
	}
}
