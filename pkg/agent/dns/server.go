package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/pkg/agent/conntable"
)

// bound has the addresses on which Run listens.
type bound struct {
	ready chan struct{}
	addrs []string
}

// Addrs waits until Run listens and returns its addresses, with the ports that
// the system chose for ":0".
func (s *Server) Addrs(ctx context.Context) ([]string, error) {
	select {
	case <-s.bound.ready:
		return s.bound.addrs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run listens on every address and answers until ctx ends; it returns after all its
// goroutines. If an address is in use, it returns an error and serves none. It may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	sockets, err := listenAll(s.addrs)
	if err != nil {
		return err
	}
	defer func() {
		for _, socket := range sockets {
			socket.close()
		}
	}()
	// Questions in progress are answered after ctx has ended.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, serving := errgroup.WithContext(ctx) // ends with ctx, or when a socket fails
	var servers []*wire.Server
	for _, socket := range sockets {
		s.bound.addrs = append(s.bound.addrs, socket.udp.LocalAddr().String())
		for _, server := range socket.servers(s, work) {
			started, ended := make(chan struct{}), make(chan struct{})
			server.NotifyStartedFunc = func() { close(started) }
			servers = append(servers, server)
			group.Go(func() error {
				defer close(ended)
				return server.ActivateAndServe()
			})
			select { // not ctx.Done(): a shutdown before the start would be lost
			case <-started:
			case <-ended:
			}
		}
	}
	close(s.bound.ready)
	<-serving.Done()
	shutdown(servers)
	cancel()
	return group.Wait()
}

// shutdown stops listening and waits for the answers in progress, until stopTimeout.
func shutdown(servers []*wire.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var wait sync.WaitGroup
	for _, server := range servers {
		wait.Go(func() { _ = server.ShutdownContext(ctx) }) // Run cancels the others
	}
	wait.Wait()
}

// serve is the handler of a socket.
func (s *Server) serve(ctx context.Context, network string) wire.HandlerFunc {
	return func(w wire.ResponseWriter, req *wire.Msg) {
		select {
		case s.questions <- struct{}{}:
			defer func() { <-s.questions }()
		default:
			if network == "tcp" { // over UDP the client repeats a question without an answer
				s.write(w, new(wire.Msg).SetRcode(req, wire.RcodeServerFailure))
			}
			return
		}
		client, _ := netip.ParseAddrPort(w.RemoteAddr().String())
		resp := s.Handle(ctx, req, network, client.Addr())
		if resp == nil {
			return
		}
		if err := s.write(w, resp); err != nil {
			s.log.Debug("dns: answer", "client", client, "error", err)
		}
	}
}

// write sends an answer, or SERVFAIL if the answer cannot be packed.
func (s *Server) write(w wire.ResponseWriter, resp *wire.Msg) error {
	data, err := resp.Pack()
	if err != nil {
		if data, err2 := failure(resp).Pack(); err2 == nil {
			_, err2 = w.Write(data)
			return errors.Join(err, err2)
		}
		return err
	}
	_, err = w.Write(data)
	return err
}

// socket is one address over UDP and TCP.
type socket struct {
	udp net.PacketConn
	tcp net.Listener
}

func (s socket) close() { _ = errors.Join(s.udp.Close(), s.tcp.Close()) }

func (s socket) servers(server *Server, ctx context.Context) []*wire.Server {
	return []*wire.Server{
		{PacketConn: s.udp, Handler: server.serve(ctx, "udp"), UDPSize: 4096, ReadTimeout: readTimeout, WriteTimeout: writeTimeout},
		{Listener: backoffListener{conntable.New(conntable.Limits{PerAddress: MaxPerClient, Total: MaxConnections}).Listener(s.tcp, nil)}, Handler: server.serve(ctx, "tcp"),
			ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: func() time.Duration { return idleTimeout }},
	}
}

func listenAll(addrs []string) ([]socket, error) {
	var out []socket
	for _, addr := range addrs {
		socket, err := listen(addr)
		if err != nil {
			for _, open := range out {
				open.close()
			}
			return nil, err
		}
		out = append(out, socket)
	}
	return out, nil
}

// listen opens an address over UDP and TCP. For port 0 it tries until both have the same
// port.
func listen(addr string) (socket, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return socket{}, fmt.Errorf("listen for DNS on %q: %w", addr, err)
	}
	for try := 0; ; try++ {
		udp, err := net.ListenPacket("udp", addr)
		if err != nil {
			return socket{}, fmt.Errorf("listen for DNS: %w (is another DNS server on it? set ports.dns or addresses.dns)", err)
		}
		actual := udp.LocalAddr().(*net.UDPAddr).Port
		tcp, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(actual)))
		if err == nil {
			return socket{udp, tcp}, nil
		}
		_ = udp.Close()
		if port != "0" || try == 10 {
			return socket{}, fmt.Errorf("listen for DNS: %w (is another DNS server on it? set ports.dns or addresses.dns)", err)
		}
	}
}

// backoffListener waits after a failed Accept. The DNS library calls it again at once,
// which is a busy loop if the process has no free file descriptor.
type backoffListener struct{ net.Listener }

func (l backoffListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		time.Sleep(acceptBackoff)
	}
	return conn, err
}
