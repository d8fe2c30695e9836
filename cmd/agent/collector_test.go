package main

import (
	"runtime"
	"testing"
)

func TestCalmCollectorPutsTheNextCollectionOff(t *testing.T) {
	next := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NextGC
	}
	before := next()
	floor := calmCollector()
	if after := next(); after < before+2*heapFloor-heapFloor/4 {
		t.Errorf("the next collection is due at %d bytes, before it was %d: want %d more", after, before, 2*heapFloor)
	}
	runtime.KeepAlive(floor)
}
