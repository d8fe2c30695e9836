// Package client is the Go client of muster's HTTP API. It speaks Consul's
// protocol, so it works against a real Consul too.
//
// One method is one request: nothing is retried or cached here. Every call ends
// when its context does, and an answer other than 200 is an *api.StatusError with
// status and text. Options.Index and Options.Wait make a blocking query; package
// watch follows a result for ever.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// maxErrorBody is how much of an error answer is kept.
const maxErrorBody = 4096

// Client sends requests to one agent. It is safe for concurrent use.
type Client struct {
	base      url.URL
	http      *http.Client
	token     string
	auth      *url.Userinfo
	dc        string
	userAgent string
}

// Options are the parameters that most reads share. The zero value asks the
// leader of the agent's own datacenter and does not block.
type Options struct {
	Datacenter string
	Stale      bool
	Consistent bool
	MaxStale   time.Duration     // implies a stale read where it is above zero
	Index      uint64            // above zero: block until the result's index is above it
	Wait       time.Duration     // limit of a blocking read; zero leaves it to the agent (5 min)
	Filter     string            // go-bexpr expression
	Near       string            // node name or _agent
	NodeMeta   map[string]string // all must match
	Params     url.Values        // anything else
}

// Meta is what the answer's headers say of a result.
type Meta struct {
	Index       uint64
	LastContact time.Duration
	KnownLeader bool
}

// New makes a client; it opens no connection.
func New(cfg Config) (*Client, error) {
	base, transport, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	token, err := cfg.token()
	if err != nil {
		return nil, err
	}
	c := &Client{
		base:      base,
		http:      &http.Client{Transport: transport},
		token:     token,
		dc:        cfg.Datacenter,
		userAgent: cfg.UserAgent,
	}
	if user, password, ok := strings.Cut(cfg.HTTPAuth, ":"); ok {
		c.auth = url.UserPassword(user, password)
	} else if cfg.HTTPAuth != "" {
		c.auth = url.User(cfg.HTTPAuth)
	}
	return c, nil
}

// Address is where the client sends its requests, for messages.
func (c *Client) Address() string { return c.base.String() }

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Get reads path into out (JSON; a *[]byte takes the body as it is; nil drops
// it). Meta is filled for error answers too.
func (c *Client) Get(ctx context.Context, path string, o *Options, out any) (Meta, error) {
	return c.Do(ctx, http.MethodGet, path, o, nil, out)
}

// get is Get with a result of type T.
func get[T any](ctx context.Context, c *Client, path string, o *Options) (out T, meta Meta, err error) {
	meta, err = c.Get(ctx, path, o, &out)
	return out, meta, err
}

// orNil returns the zero value for an error; the status 404 is none.
func orNil[T any](out T, meta Meta, err error) (T, Meta, error) {
	if err == nil {
		return out, meta, nil
	}
	var none T
	if IsStatus(err, http.StatusNotFound) {
		err = nil
	}
	return none, meta, err
}

// Put sends in and reads the answer into out.
func (c *Client) Put(ctx context.Context, path string, o *Options, in, out any) (Meta, error) {
	return c.Do(ctx, http.MethodPut, path, o, in, out)
}

// Do sends one request. in is an io.Reader, []byte, or anything that encodes to
// JSON; nil sends no body.
func (c *Client) Do(ctx context.Context, method, path string, o *Options, in, out any) (Meta, error) {
	resp, err := c.Stream(ctx, method, path, o, in)
	if err != nil {
		return Meta{}, err
	}
	defer drain(resp.Body)
	meta := parseMeta(resp.Header)
	if resp.StatusCode != http.StatusOK {
		return meta, statusError(resp)
	}
	if err := decode(resp.Body, out); err != nil {
		return meta, fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return meta, nil
}

// Stream sends one request and hands out the answer, whatever its status. The
// caller closes the body.
func (c *Client) Stream(ctx context.Context, method, path string, o *Options, in any) (*http.Response, error) {
	body, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("encode body of %s %s: %w", method, path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url(path, o), body)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", method, path, err)
	}
	if c.token != "" {
		req.Header.Set(api.HeaderToken, c.token)
	}
	if c.auth != nil {
		password, _ := c.auth.Password()
		req.SetBasicAuth(c.auth.Username(), password)
	}
	if c.userAgent != "" {
		req.Header.Set("User-Agent", c.userAgent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s at %s: %w", method, path, c.Address(), cause(err))
	}
	return resp, nil
}

// cause drops the method and address that net/http puts before an error.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (c *Client) url(path string, o *Options) string {
	u := c.base
	// Keys may hold any byte, so the path travels escaped.
	u.Path = strings.TrimSuffix(c.base.Path, "/") + path
	u.RawPath = rawPath(u.Path)
	u.RawQuery = o.encode(c.dc)
	return u.String()
}

// rawPath escapes a path so that no server cleans it: the slash after an empty segment
// becomes %2F, and "." and ".." are escaped. An id may be a URL, or contain two slashes;
// cleaned, it would name something else. rawPath returns "" if the usual escaping is
// enough.
func rawPath(p string) string {
	segments, escaped := strings.Split(strings.TrimPrefix(p, "/"), "/"), false
	var out strings.Builder
	for i, segment := range segments {
		last := i == len(segments)-1
		if i == 0 || segments[i-1] != "" {
			out.WriteByte('/')
		}
		switch {
		case segment == "" && !last:
			out.WriteString("%2F")
			escaped = true
		case segment == "." || segment == "..":
			out.WriteString(strings.Repeat("%2E", len(segment)))
			escaped = true
		default:
			out.WriteString(url.PathEscape(segment))
		}
	}
	if !escaped {
		return ""
	}
	return out.String()
}

func (o *Options) encode(dc string) string {
	if o == nil {
		o = &Options{}
	}
	q := url.Values{}
	for k, v := range o.Params {
		q[k] = v
	}
	if o.Datacenter != "" {
		dc = o.Datacenter
	}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("dc", dc)
	set("filter", o.Filter)
	set("near", o.Near)
	if o.Stale {
		q.Set("stale", "")
	}
	if o.Consistent {
		q.Set("consistent", "")
	}
	if o.MaxStale > 0 {
		q.Set("max_stale", o.MaxStale.String())
	}
	if o.Index > 0 {
		q.Set("index", strconv.FormatUint(o.Index, 10))
	}
	if o.Wait > 0 {
		q.Set("wait", strconv.FormatInt(o.Wait.Milliseconds(), 10)+"ms")
	}
	for k, v := range o.NodeMeta {
		q.Add("node-meta", k+":"+v)
	}
	return q.Encode()
}

func encode(in any) (io.Reader, error) {
	switch v := in.(type) {
	case nil:
		return nil, nil
	case io.Reader:
		return v, nil
	case []byte:
		return bytes.NewReader(v), nil
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

func decode(body io.Reader, out any) error {
	switch v := out.(type) {
	case nil:
		return nil
	case *[]byte:
		data, err := io.ReadAll(body)
		*v = data
		return err
	}
	return json.NewDecoder(body).Decode(out)
}

func statusError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // as much as arrived
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte(resp.Status)
	}
	return api.AnswerError(resp.StatusCode, text)
}

// IsStatus says whether err is an answer with that status.
func IsStatus(err error, code int) bool {
	var e *api.StatusError
	return errors.As(err, &e) && e.Code == code
}

func parseMeta(h http.Header) Meta {
	var m Meta
	m.Index, _ = strconv.ParseUint(h.Get(api.HeaderIndex), 10, 64)
	if ms, err := strconv.ParseUint(h.Get(api.HeaderLastContact), 10, 32); err == nil {
		m.LastContact = time.Duration(ms) * time.Millisecond
	}
	m.KnownLeader = h.Get(api.HeaderKnownLeader) == "true"
	return m
}

// drain reads the rest of a body, up to 64 KiB, so that the connection can be reused.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}
