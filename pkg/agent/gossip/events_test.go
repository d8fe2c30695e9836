package gossip

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// A change after a quiet time is shown at once, a thousand within 100 ms to a pool
// of a hundred in steps of 10 ms, the last of them too.
func TestManyChangesAreShownInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown []time.Time
		p := New(Config{NodeName: "n1", Logger: logx.Discard(), OnChange: func() { shown = append(shown, time.Now()) }})
		p.view.Store(&members{list: make([]api.Member, 100)})
		events, stop := make(chan serf.Event), make(chan struct{})
		go p.handleEvents(nil, events, stop)
		began := time.Now()
		for range 1000 {
			events <- serf.MemberEvent{Type: serf.EventMemberJoin}
			time.Sleep(100 * time.Microsecond)
		}
		last := time.Now()
		time.Sleep(time.Second)
		close(stop)
		synctest.Wait()
		if len(shown) < 10 || len(shown) > 12 {
			t.Errorf("1,000 changes were shown in %d steps, want about 11", len(shown))
		}
		if !shown[0].Equal(began) {
			t.Errorf("the first change was shown after %v", shown[0].Sub(began))
		}
		if late := shown[len(shown)-1].Sub(last); late < 0 || late > 10*time.Millisecond {
			t.Errorf("the last change was shown %v after it came", late)
		}
	})
}

// The view may be a while behind: a name that has passed costs nothing more.
func TestANewcomerIsChargedOnce(t *testing.T) {
	g := &filterTransport{members: func() *members { return &members{} }, newNames: tokenBucket{rate: newNamesPerSecond, burst: 2}}
	now := time.Now()
	said := func(i int) []byte {
		return append([]byte{msgAlive, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0xa2}, fmt.Sprintf("%02d", i)...)
	}
	for range 50 {
		if !g.allowName(said(1), now) || !g.allowName(said(2), now) {
			t.Fatal("two newNames did not pass, again and again, where there is room for two")
		}
	}
	if g.allowName(said(3), now) {
		t.Error("a third newcomer passed where there is room for two")
	}
}
