package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DefaultAddress is where an agent listens unless told otherwise.
const DefaultAddress = "127.0.0.1:8500"

// Config says which agent to talk to and how. The zero value means
// http://127.0.0.1:8500.
type Config struct {
	Address    string // host:port, http://, https:// or unix:///path
	SSL        bool   // https although Address names no scheme
	Token      string
	TokenFile  string // overrides Token
	Datacenter string
	HTTPAuth   string // user:password
	UserAgent  string

	CAFile             string
	CAPath             string
	CertFile           string
	KeyFile            string
	TLSServerName      string
	InsecureSkipVerify bool

	// Transport replaces the one that would be made from the fields above.
	Transport http.RoundTripper
}

func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return c.Token, nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// resolve turns the address into a base URL and a transport that reaches it.
func (c Config) resolve() (url.URL, http.RoundTripper, error) {
	addr := c.Address
	if addr == "" {
		addr = DefaultAddress
	}
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		t := c.transport(nil)
		if c.Transport == nil {
			dial := &net.Dialer{}
			t.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial.DialContext(ctx, "unix", path)
			}
		}
		return url.URL{Scheme: "http", Host: "localhost"}, t, nil
	}
	if !strings.Contains(addr, "://") {
		scheme := "http://"
		if c.SSL {
			scheme = "https://"
		}
		addr = scheme + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return url.URL{}, nil, fmt.Errorf("bad agent address %q: use host:port, http://host:port, https://host:port or unix:///path", c.Address)
	}
	if u.Port() == "" && u.Scheme == "http" && !strings.Contains(c.Address, "://") {
		u.Host = net.JoinHostPort(u.Hostname(), "8500")
	}
	tlsConf, err := c.tls(u.Scheme)
	if err != nil {
		return url.URL{}, nil, err
	}
	return *u, c.transport(tlsConf), nil
}

func (c Config) transport(tlsConf *tls.Config) http.RoundTripper {
	if c.Transport != nil {
		return c.Transport
	}
	dial := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext:         dial.DialContext,
		TLSClientConfig:     tlsConf,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		// Agents are near: compressing costs more than it saves.
		DisableCompression: true,
	}
}

func (c Config) tls(scheme string) (*tls.Config, error) {
	if scheme != "https" {
		return nil, nil
	}
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.TLSServerName,
		InsecureSkipVerify: c.InsecureSkipVerify,
	}
	pool, err := c.rootCAs()
	if err != nil {
		return nil, err
	}
	conf.RootCAs = pool
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate %q with key %q: %w", c.CertFile, c.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func (c Config) rootCAs() (*x509.CertPool, error) {
	files := []string{}
	if c.CAFile != "" {
		files = append(files, c.CAFile)
	} else if c.CAPath != "" {
		found, err := filepath.Glob(filepath.Join(c.CAPath, "*"))
		if err != nil {
			return nil, fmt.Errorf("read CA path: %w", err)
		}
		files = found
	}
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read CA certificate: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA certificate %s: no PEM certificate in it", f)
		}
	}
	return pool, nil
}
