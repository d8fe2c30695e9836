package harness

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A test process has 127.x.0.0/16 to itself, and 100 ports. It holds both by a
// listener that lives as long as the process does: whichever of the processes that
// run at the same time comes first has it, and none has to clean up.
const (
	firstNet, lastNet = 130, 250
	holdPort          = 9999  // at 127.x.255.254
	firstPort         = 10000 // below those that outgoing connections take theirs from
	portsEach         = 100
)

var own struct {
	once  sync.Once
	hold  net.Listener
	x     int
	nets  atomic.Int32
	ports atomic.Int32
	lans  atomic.Int32
}

func claim(t testing.TB) int {
	t.Helper()
	own.once.Do(func() {
		for x := firstNet; x <= lastNet; x++ {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:%d", x, holdPort))
			if err == nil {
				own.hold, own.x = ln, x
				return
			}
		}
	})
	if own.hold == nil {
		t.Fatalf("every 127.x.0.0/16 from %d to %d is in use by another test process", firstNet, lastNet)
	}
	return own.x
}

// Net is an unused "127.x.y": addresses 1 to 254 below it are the
// caller's.
func Net(t testing.TB) string {
	t.Helper()
	n := own.nets.Add(1)
	if n > 254 {
		t.Fatal("more than 254 networks for one test process")
	}
	return fmt.Sprintf("127.%d.%d", claim(t), n)
}

// Port is one that is free on every address, and that no outgoing connection
// takes.
func Port(t testing.TB) int {
	t.Helper()
	first := firstPort + (claim(t)-firstNet)*portsEach
	for range portsEach {
		port := first + int(own.ports.Add(1))%portsEach
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatalf("none of the ports from %d on is free", first)
	return 0
}
