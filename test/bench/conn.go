package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A conn is a kept HTTP connection for one request at a time. net/http's client
// would take from the agent much of the CPU that is to be measured.
type conn struct {
	addr   string
	parked bool // a request may wait for its answer as long as it likes
	net    net.Conn
	in     *bufio.Reader
	out    []byte
	body   bytes.Buffer
}

// A response's body is good until the next request.
type response struct {
	status int
	index  uint64 // X-Consul-Index
	body   []byte
}

// dial is a conn to addr, which it connects to when it has to.
func dial(addr string) *conn { return &conn{addr: addr} }

// close ends the connection. A parked one may be closed while it waits, and is
// not opened again.
func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close()
	}
	if !c.parked {
		c.net = nil
	}
}

func (c *conn) connect() (err error) {
	if c.net != nil {
		return nil
	}
	if c.net, err = net.DialTimeout("tcp", c.addr, maxWait); err == nil {
		c.in = bufio.NewReader(c.net)
	} else {
		c.net = nil
	}
	return err
}

// ask sends a request and reads its answer, which has to be 200.
func (c *conn) ask(method, path string, body []byte) (response, error) {
	if err := c.send(method, path, body); err != nil {
		return response{}, err
	}
	resp, err := c.receive()
	if err == nil && resp.status != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", resp.status, resp.body)
	}
	if err != nil {
		return response{}, fmt.Errorf("%s %s%s: %w", method, c.addr, path, err)
	}
	return resp, nil
}

func (c *conn) send(method, path string, body []byte) error {
	if err := c.connect(); err != nil {
		return err
	}
	b := append(append(append(c.out[:0], method...), ' '), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), c.addr...)
	if method != http.MethodGet {
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(body)), 10)
	}
	c.out = append(append(b, "\r\n\r\n"...), body...)
	var deadline time.Time
	if !c.parked {
		deadline = time.Now().Add(maxWait / 2)
	}
	_ = c.net.SetDeadline(deadline) // fails only where the write does
	_, err := c.net.Write(c.out)
	if err != nil {
		c.close()
	}
	return err
}

func (c *conn) receive() (response, error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.close()
		return response{}, err
	}
	c.body.Reset()
	if _, err = c.body.ReadFrom(resp.Body); err != nil || resp.Close {
		c.close()
	}
	index, _ := strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
	return response{resp.StatusCode, index, c.body.Bytes()}, err
}

// park opens n connections for long polls.
func park(addr string, n int) (conns []*conn) {
	for len(conns) < n {
		c := dial(addr)
		c.parked = true
		if err := c.connect(); err != nil {
			check(fmt.Errorf("open %d connections (see 'ulimit -n'): %w", n, err))
		}
		conns = append(conns, c)
	}
	return conns
}

func unpark(conns []*conn) {
	for _, c := range conns {
		c.close()
	}
}
