package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const userAgent = "Consul Health Check" // existing access rules of servers allow this name

// httpProbe requests a URL: 2xx is passing, 429 warning, anything else critical.
type httpProbe struct {
	def    *api.CheckDefinition
	client *http.Client
	max    int
}

func newHTTP(def *api.CheckDefinition, o Options) *httpProbe {
	client := &http.Client{
		Timeout: timeoutOf(def, defaultTimeout), // the only timeout, so that the error text is always the same
		// There is no proxy, because a running agent does not read its environment, and no
		// keep-alive, so that the check notices when nothing listens any more.
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			TLSClientConfig:        tlsConfig(def),
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	if def.DisableRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &httpProbe{def: def, client: client, max: o.OutputMax}
}

func (p *httpProbe) run(ctx context.Context) (string, string) {
	method := p.def.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, p.def.HTTP, strings.NewReader(p.def.Body))
	if err != nil {
		return api.HealthCritical, err.Error()
	}
	p.setHeader(req)
	resp, err := p.client.Do(req)
	if err != nil {
		return api.HealthCritical, err.Error()
	}
	defer resp.Body.Close()
	body := readTail(resp.Body, p.max)
	output := fmt.Sprintf("HTTP %s %s: %s Output: %s", method, p.def.HTTP, resp.Status, body)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		return api.HealthPassing, output
	case resp.StatusCode == http.StatusTooManyRequests:
		return api.HealthWarning, output
	}
	return api.HealthCritical, output
}

func (p *httpProbe) setHeader(req *http.Request) {
	for name, values := range p.def.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "text/plain, text/*, */*")
	}
}

// readTail reads to the end and returns the last n bytes; it keeps little more than that
// in memory. The client's timeout limits it. A read error ends the body and does not
// change the result of the check.
func readTail(r io.Reader, n int) []byte {
	var kept []byte
	chunk := make([]byte, 4096)
	for {
		m, err := r.Read(chunk)
		kept = append(kept, chunk[:m]...)
		if len(kept) > n {
			kept = append(kept[:0], fromRune(kept[len(kept)-n:])...)
		}
		if err != nil {
			return kept
		}
	}
}

// tlsConfig is the TLS configuration of a check.
func tlsConfig(def *api.CheckDefinition) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: def.TLSSkipVerify, ServerName: def.TLSServerName}
}

func newTCP(def *api.CheckDefinition) tcpProbe {
	p := tcpProbe{addr: def.TCP, timeout: timeoutOf(def, defaultTimeout)}
	if def.TCPUseTLS {
		p.tls = tlsConfig(def)
	}
	return p
}

// tcpProbe passes when the connection, and with TLS the handshake, succeeds.
type tcpProbe struct {
	addr    string
	timeout time.Duration
	tls     *tls.Config // nil without TLS
}

func (p tcpProbe) run(ctx context.Context) (string, string) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	dialer := &net.Dialer{Timeout: p.timeout}
	what := "TCP connect"
	dial := dialer.DialContext
	if p.tls != nil {
		what = "TCP+TLS connect"
		dial = (&tls.Dialer{NetDialer: dialer, Config: p.tls}).DialContext
	}
	conn, err := dial(ctx, "tcp", p.addr)
	if err != nil {
		return api.HealthCritical, err.Error()
	}
	conn.Close()
	return api.HealthPassing, fmt.Sprintf("%s %s: Success", what, p.addr)
}

// udpProbe sends an empty datagram. It passes with a reply and without one: only an ICMP
// error proves that nothing listens there.
type udpProbe struct {
	addr    string
	timeout time.Duration
}

func (p udpProbe) run(ctx context.Context) (string, string) {
	conn, err := (&net.Dialer{Timeout: p.timeout}).DialContext(ctx, "udp", p.addr)
	if err != nil {
		return api.HealthCritical, err.Error()
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	success := fmt.Sprintf("UDP connect %s: Success", p.addr)
	if err := conn.SetDeadline(time.Now().Add(p.timeout)); err != nil {
		return api.HealthCritical, err.Error()
	}
	if _, err := conn.Write(nil); err != nil {
		return api.HealthCritical, err.Error()
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
		return api.HealthCritical, err.Error()
	}
	return api.HealthPassing, success
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
