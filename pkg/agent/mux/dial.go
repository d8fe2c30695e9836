package mux

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Dialer connects to the server ports of other agents.
type Dialer struct {
	id      *Identity
	timeout time.Duration
}

// NewDialer makes a Dialer. timeout is for the connection and the handshake together.
func NewDialer(id *Identity, timeout time.Duration) *Dialer {
	return &Dialer{id: id, timeout: timeout}
}

// Dial connects to addr for the protocol proto.
func (d *Dialer) Dial(ctx context.Context, addr, proto string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err // "dial tcp ADDR: ..."
	}
	conn := tls.Client(raw, d.id.client(proto))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != proto {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake with %s: it does not support %s: is this a server port?", addr, proto)
	}
	return conn, nil
}

// DialRaft connects to addr for raft.
func (d *Dialer) DialRaft(ctx context.Context, addr string) (net.Conn, error) {
	return d.Dial(ctx, addr, ProtoRaft)
}
