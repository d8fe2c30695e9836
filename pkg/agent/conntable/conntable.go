// Package conntable bounds the connections that are open at a port, of each
// address and in all.
//
// What it promises: a connection counts from Add until its Close, once; Close may
// be called any number of times; the table's Close leaves none open and lets no more
// in.
package conntable

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Why a connection is refused.
var (
	ErrAddress = errors.New("too many connections from this address")
	ErrTotal   = errors.New("too many connections")
)

// Limits of a Table. Zero or less is no limit.
type Limits struct {
	PerAddress int
	Total      int
	// GiveWay is the age from which a connection is closed to make room for a new
	// one: the oldest of the same address where that is at its limit, else the
	// oldest of the address with the most. Zero: the new one is refused.
	GiveWay time.Duration
}

// Table holds the open connections of one port, or of several that share limits.
// It is safe for concurrent use.
type Table struct {
	mu        sync.Mutex
	limits    Limits
	open      map[*Conn]struct{}
	byAddress map[netip.Addr]int
	counted   int
	closed    bool
}

// New makes a table.
func New(limits Limits) *Table {
	return &Table{limits: limits, open: map[*Conn]struct{}{}, byAddress: map[netip.Addr]int{}}
}

// SetPerAddress changes a limit. Open connections stay.
func (t *Table) SetPerAddress(limit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits.PerAddress = limit
}

// Add takes a connection in, or refuses it with ErrAddress, ErrTotal or, after
// the table's Close, net.ErrClosed; a refused one is still the caller's. One whose other
// end is no IP address counts in all only.
func (t *Table) Add(conn net.Conn) (*Conn, error) {
	c := &Conn{Conn: conn, table: t, since: time.Now(), address: AddressOf(conn.RemoteAddr()), counted: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	if err := t.full(c.address); err != nil {
		old := t.oldest(c.address, errors.Is(err, ErrAddress))
		if t.limits.GiveWay <= 0 || old == nil || c.since.Sub(old.since) < t.limits.GiveWay {
			return nil, err
		}
		t.remove(old)
		_ = old.Conn.Close()
	}
	t.open[c] = struct{}{}
	t.counted++
	if c.address.IsValid() {
		t.byAddress[c.address]++
	}
	return c, nil
}

// AddOwn takes a connection in that this side has made: no limit is for it, but
// Close and CloseAll close it.
func (t *Table) AddOwn(conn net.Conn) (*Conn, error) {
	c := &Conn{Conn: conn, table: t, since: time.Now(), address: AddressOf(conn.RemoteAddr())}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	t.open[c] = struct{}{}
	return c, nil
}

func (t *Table) full(address netip.Addr) error {
	l := t.limits
	switch {
	case l.PerAddress > 0 && address.IsValid() && t.byAddress[address] >= l.PerAddress:
		return fmt.Errorf("%w: %s has %d", ErrAddress, address, l.PerAddress)
	case l.Total > 0 && t.counted >= l.Total:
		return fmt.Errorf("%w: %d are open", ErrTotal, l.Total)
	}
	return nil
}

// oldest is who gives way first: of this address, or of the one with the most.
func (t *Table) oldest(address netip.Addr, same bool) (first *Conn) {
	if !same {
		for other, n := range t.byAddress {
			if n > t.byAddress[address] {
				address = other
			}
		}
	}
	for c := range t.open {
		if c.counted && c.address == address && (first == nil || c.since.Before(first.since)) {
			first = c
		}
	}
	return first
}

// remove is called with the lock held. It does nothing for one that is gone.
func (t *Table) remove(c *Conn) {
	if _, open := t.open[c]; !open {
		return
	}
	delete(t.open, c)
	if !c.counted {
		return
	}
	t.counted--
	if t.byAddress[c.address]--; t.byAddress[c.address] <= 0 {
		delete(t.byAddress, c.address)
	}
}

// Close closes every connection, and refuses all that come after.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.CloseAll()
}

// CloseAll closes every connection that is open.
func (t *Table) CloseAll() {
	t.mu.Lock()
	open := make([]*Conn, 0, len(t.open))
	for c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// Listener accepts what is within the limits. refuse gets what is not and has to
// close it; nil just closes.
func (t *Table) Listener(ln net.Listener, refuse func(net.Conn, error)) net.Listener {
	if refuse == nil {
		refuse = func(conn net.Conn, _ error) { _ = conn.Close() }
	}
	return &listener{ln, t, refuse}
}

type listener struct {
	net.Listener
	table  *Table
	refuse func(net.Conn, error)
}

func (ln *listener) Accept() (net.Conn, error) {
	for {
		raw, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn, err := ln.table.Add(raw)
		if err == nil {
			return conn, nil
		}
		ln.refuse(raw, err)
	}
}

// Conn is a connection in a Table.
type Conn struct {
	net.Conn
	table   *Table
	address netip.Addr
	since   time.Time
	counted bool
}

// Close makes room and closes.
func (c *Conn) Close() error {
	c.table.mu.Lock()
	c.table.remove(c)
	c.table.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite ends this side of the connection, where it has sides.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// AddressOf is the IP address of one end, IPv4 as such; the zero value if it has none.
func AddressOf(end net.Addr) netip.Addr {
	switch end := end.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		return end.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return end.AddrPort().Addr().Unmap()
	}
	ap, _ := netip.ParseAddrPort(end.String())
	return ap.Addr().Unmap()
}
