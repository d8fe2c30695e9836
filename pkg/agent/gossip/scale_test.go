package gossip

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How a pool behaves as it grows; see docs/scale.md. By hand, for the table there:
//
//	MUSTER_SCALE=10,30,100,300,1000 go test -count=1 -timeout 60m -v -run TestScale ./pkg/agent/gossip/
func TestScale(t *testing.T) {
	sizes := []int{20}
	if s := os.Getenv("MUSTER_SCALE"); s != "" {
		sizes = nil
		for _, word := range strings.Split(s, ",") {
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatalf("MUSTER_SCALE=%s: %v", s, err)
			}
			sizes = append(sizes, n)
		}
	}
	for _, size := range sizes {
		bubble(t, func(t *testing.T) { measure(t, size) })
	}
}

func measure(t *testing.T, size int) {
	f := newBigPool(t)
	defer f.end()
	n := float64(size)
	quiet, events, kills := 60.0, 5, 5
	if size <= 20 {
		quiet, events, kills = 10, 2, 2
	}
	how := "in stages of 50"
	began, was := time.Now(), f.books()
	if size > 400 { // each second of so many costs one of CPU
		quiet, events, kills = 20, 3, 3
		f.fill(size)
		how = "by streams alone"
	} else {
		f.build(size, 50)
	}
	c := f.since(was)
	t.Logf("%d: joined %s in %v; per agent: CPU %.1f ms, %.0f packets, %.0f KB, %.0f KB by streams; %d packets dropped",
		size, how, time.Since(began), ms(c.cpu)/n, float64(c.packets)/n, float64(c.packetBytes)/n/1e3, float64(c.streamBytes)/n/1e3, f.net.carried.dropped.Load())
	f.settle()
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)

	was = f.books()
	time.Sleep(time.Duration(quiet) * time.Second)
	idle := f.since(was)
	t.Logf("%d: idle, per agent and second: CPU %.3f ms, %.1f packets, %.0f B, %.0f B by streams; %.0f KB of heap",
		size, ms(idle.cpu)/n/quiet, float64(idle.packets)/n/quiet, float64(idle.packetBytes)/n/quiet, float64(idle.streamBytes)/n/quiet, float64(mem.HeapAlloc)/n/1e3)

	var lasts []time.Duration
	was = f.books()
	for range events {
		last, lost := f.fire()
		if lasts = append(lasts, last); lost > 0 {
			t.Errorf("%d: an event did not reach %d", size, lost)
		}
	}
	if slices.Max(lasts) > time.Second {
		t.Errorf("%d: an event took %v to the last", size, slices.Max(lasts))
	}
	c = f.since(was)
	share := float64(events) * 10 / quiet // of the idle minute's traffic
	slices.Sort(lasts)
	t.Logf("%d: event to the last: %v; per agent and event beside idle: %.1f packets, %.0f B", size, lasts,
		(float64(c.packets)-share*float64(idle.packets))/n/float64(events), (float64(c.packetBytes)-share*float64(idle.packetBytes))/n/float64(events))

	for _, loss := range []float64{0.01, 0.05} {
		f.net.setLoss(loss)
		before, wrong := f.net.suspicions(), 0
		for range int(5 * quiet) {
			time.Sleep(200 * time.Millisecond)
			wrong = max(wrong, f.falseFailures())
		}
		t.Logf("%d: %.0f%% loss for %v s: %d suspicions, %d false failures", size, 100*loss, quiet, f.net.suspicions()-before, wrong)
		if wrong > 0 {
			t.Errorf("%d: %d false failures at %.0f%% loss", size, wrong, 100*loss)
		}
	}
	f.net.setLoss(0)
	time.Sleep(10 * time.Second)

	var firsts []time.Duration
	lasts = nil
	for range kills {
		first, last := f.kill()
		firsts, lasts = append(firsts, first), append(lasts, last)
	}
	slices.Sort(firsts)
	slices.Sort(lasts)
	// It grows with the logarithm: 2.6 s for ten, 4.7 s for a hundred.
	if limit := time.Duration((2 + 2.5*math.Log10(n)) * float64(time.Second)); slices.Max(lasts) > limit {
		t.Errorf("%d: a failure was seen by the last after %v, want at most %v", size, slices.Max(lasts), limit)
	}
	t.Logf("%d: killed, seen by the first: %v, by the last: %v", size, firsts, lasts)
}

// settle waits until nothing waits to be gossiped.
func (f *bigPool) settle() {
	f.t.Helper()
	for range 600 {
		time.Sleep(time.Second)
		most := 0
		for _, n := range f.all {
			s := n.Stats()
			for _, queue := range []string{"intent_queue", "event_queue"} {
				waiting, _ := strconv.Atoi(s[queue])
				most = max(most, waiting)
			}
		}
		if most == 0 {
			time.Sleep(20 * time.Second) // memberlist's own queue is not shown
			return
		}
	}
	f.t.Fatal("after ten minutes there is still something to gossip")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
