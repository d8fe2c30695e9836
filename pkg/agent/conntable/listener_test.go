package conntable

import (
	"net"
	"testing"
	"time"
)

func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := New(Limits{PerAddress: 2, Total: 3}).Listener(inner, nil)
	defer ln.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func(from string) (client, server net.Conn) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		client, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = client.Read(make([]byte, 1)) // ends when it is closed
		}()
		select {
		case server = <-accepted:
			return client, server
		case <-gone:
			return client, nil
		case <-time.After(10 * time.Second):
			t.Fatal("neither taken nor closed")
			return nil, nil
		}
	}
	_, first := dial("127.0.0.2")
	_, second := dial("127.0.0.2")
	_, third := dial("127.0.0.2")
	if first == nil || second == nil || third != nil {
		t.Fatalf("of one client: %v, %v, %v", first, second, third)
	}
	_, other := dial("127.0.0.3")
	_, tooMany := dial("127.0.0.4")
	if other == nil || tooMany != nil {
		t.Fatalf("of others: %v, %v", other, tooMany)
	}
	_ = first.Close()
	_ = first.Close() // counts once
	if _, again := dial("127.0.0.2"); again == nil {
		t.Error("what was closed still counts")
	}
	if _, tooMany := dial("127.0.0.2"); tooMany != nil {
		t.Error("a connection that was closed twice counted twice")
	}
}
