package conntable

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// from is one end of a pipe whose other end has an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(f.addr), Port: 1}
}

func conn(t *testing.T, addr string) net.Conn {
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return from{near, addr}
}

func isClosed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, net.ErrClosed) || err != nil && err.Error() == "io: read/write on closed pipe"
}

func TestGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New(Limits{PerAddress: 2, Total: 3, GiveWay: time.Second})
		add := func(addr string) (*Conn, error) {
			time.Sleep(time.Millisecond) // no two of one age
			return table.Add(conn(t, addr))
		}
		a1, _ := add("10.0.0.1")
		a2, _ := add("::ffff:10.0.0.1")
		if _, err := add("10.0.0.1"); !errors.Is(err, ErrAddress) {
			t.Errorf("a third of one address while the others are young: %v", err)
		}
		b1, err := add("10.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := add("10.0.0.3"); !errors.Is(err, ErrTotal) {
			t.Errorf("a fourth in all: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := add("10.0.0.3"); err != nil || !isClosed(a1) || isClosed(a2) || isClosed(b1) {
			t.Errorf("the oldest of the address with the most gives way: %v, closed %v %v %v", err, isClosed(a1), isClosed(a2), isClosed(b1))
		}
		_ = a1.Close() // counts no second time
		if _, err := add("10.0.0.2"); err != nil || !isClosed(a2) && !isClosed(b1) {
			t.Errorf("one of the oldest gives way: %v", err)
		}
		if table.counted != 3 || len(table.open) != 3 {
			t.Errorf("%d are counted, %d open; want 3", table.counted, len(table.open))
		}
	})
}

func TestClose(t *testing.T) {
	table := New(Limits{PerAddress: 1})
	in, err := table.Add(conn(t, "10.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := table.AddOwn(conn(t, "10.0.0.1"))
	if err != nil {
		t.Fatalf("a connection of our own counts against no limit: %v", err)
	}
	table.Close()
	if !isClosed(in) || !isClosed(own) || len(table.open)+len(table.byAddress)+table.counted > 0 {
		t.Errorf("left: %v", table)
	}
	if _, err := table.Add(conn(t, "10.0.0.2")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := table.AddOwn(conn(t, "10.0.0.2")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
