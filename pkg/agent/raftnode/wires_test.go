package raftnode

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wires is a network between members whose messages can be held and are delayed,
// each direction of each connection by itself, so that what goes over several
// connections arrives in another order. What is held is not lost.
type wires struct {
	t      *testing.T
	random *rand.Rand

	mu      sync.Mutex
	jitter  time.Duration // the most that a piece is delayed
	held    map[wire]bool
	changed chan struct{} // closed when held changes
	pumps   sync.WaitGroup
}

// A wire carries what one member sends to another one on connections that the first
// of the two dialled, or the second did.
type wire struct {
	from, to string
	dialled  bool // by from: its requests, else its answers
}

func newWires(t *testing.T) *wires {
	return &wires{t: t, random: rand.New(rand.NewPCG(1, 2)), held: map[wire]bool{}, changed: make(chan struct{})}
}

// set holds these wires, or lets them go.
func (w *wires) set(hold bool, some ...wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range some {
		w.held[x] = hold
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// between is every wire between two sets of members.
func between(some, others []*member) (all []wire) {
	for _, a := range some {
		for _, b := range others {
			for _, dialled := range []bool{true, false} {
				all = append(all, wire{a.id, b.id, dialled}, wire{b.id, a.id, dialled})
			}
		}
	}
	return all
}

// clear waits until a wire may carry something, false if done was closed first.
func (w *wires) clear(x wire, done <-chan struct{}) bool {
	for {
		w.mu.Lock()
		held, changed, pause := w.held[x], w.changed, time.Duration(0)
		if w.jitter > 0 && w.random.IntN(4) == 0 {
			pause = time.Duration(w.random.Int64N(int64(w.jitter)))
		}
		w.mu.Unlock()
		if !held {
			if pause == 0 {
				return true
			}
			select {
			case <-time.After(pause):
				return true
			case <-done:
				return false
			}
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// dialer is the dial function of one member.
func (w *wires) dialer(id string, nameOf func(addr string) string, dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		far, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		near, mine, err := pair()
		if err != nil {
			_ = far.Close()
			return nil, err
		}
		to := nameOf(addr)
		done := make(chan struct{})
		end := sync.OnceFunc(func() {
			close(done)
			_ = far.Close()
			_ = near.Close()
		})
		w.pumps.Go(func() { w.pump(wire{id, to, true}, near, far, done, end) })
		w.pumps.Go(func() { w.pump(wire{to, id, false}, far, near, done, end) })
		return mine, nil
	}
}

func (w *wires) pump(x wire, from, to net.Conn, done chan struct{}, end func()) {
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !w.clear(x, done) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF && x.dialled { // raft has closed its end: nothing is held for it
				return
			}
			w.clear(x, done)
			return
		}
	}
}

// pair is a connection within this process, with room for what is held.
func pair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conns[i], err = net.FileConn(f)
		_ = f.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	return conns[0], conns[1], nil
}
