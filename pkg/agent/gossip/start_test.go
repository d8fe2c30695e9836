package gossip

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// earlyTransport brings an event and then a ping, to be answered with what there is
// to pass on, while the member is still being made.
type earlyTransport struct {
	*memTransport
	asked int
}

func (e *earlyTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if e.asked++; e.asked == 2 { // memberlist listens by then, and serf waits for it
		event := packed(3, struct {
			LTime uint64
			Name  string
			CC    bool
		}{1, "early", false})
		for _, packet := range [][]byte{
			append([]byte{msgUser}, event...),
			packed(msgPing, struct {
				SeqNo uint32
				Node  string
			}{7, "n1"}),
		} {
			e.packets <- &memberlist.Packet{Buf: packet, From: e.addr, Timestamp: time.Now()}
			synctest.Wait()
		}
	}
	return e.memTransport.FinalAdvertiseAddr(ip, port)
}

// serf 0.11 panics on what comes before it has been made whole.
func TestNothingComesInBeforeTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		events := make(chan Event, 10)
		early := &earlyTransport{memTransport: newMemNet().attach(ipOf(1))}
		n := start(t, Config{NodeName: "n1", transport: early, OnEvent: func(e Event) { events <- e }})
		defer n.end()
		if early.asked < 2 {
			t.Fatal("memberlist did not ask for its address while it listened")
		}
		if e := <-events; e.Name != "early" {
			t.Errorf("heard %+v", e)
		}
	})
}
