package state

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// One batch of 64 puts, as 64 busy clients make it; ns/op is per put.
func BenchmarkApplyBatchPuts(b *testing.B) {
	l := newLab(b)
	for i := range 10_000 {
		l.put(fmt.Sprintf("bench/%05d", i), "0")
	}
	const batch = 64
	entries := make([]Entry, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		b.StopTimer()
		for i := range entries {
			l.index++
			key := fmt.Sprintf("bench/%05d", (n+i)*7919%10_000)
			entries[i] = l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: key, Value: fmt.Append(nil, n)}}, l.index)
		}
		b.StartTimer()
		l.s.ApplyBatch(entries)
	}
}

func benchService(b *testing.B, instances int) *Snapshot {
	l := newLab(b)
	for i := range instances {
		id := fmt.Sprintf("web-%04d", i)
		l.must(register(fmt.Sprintf("node-%04d", i), service(id, "web", "a"),
			check("serfHealth", "", "passing"), check("http:"+id, id, "passing")))
	}
	return l.sn
}

func BenchmarkHealthService100(b *testing.B) {
	sn := benchService(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		if rows, _ := sn.HealthService("web", Select{Passing: true}); len(rows) != 100 {
			b.Fatal(len(rows))
		}
	}
}

func BenchmarkServiceNodes1000(b *testing.B) {
	sn := benchService(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if rows, _ := sn.ServiceNodes("web", Select{}); len(rows) != 1000 {
			b.Fatal(len(rows))
		}
	}
}

func BenchmarkKVGet(b *testing.B) {
	l := newLab(b)
	l.put("a", "1")
	b.ReportAllocs()
	for b.Loop() {
		l.sn.KVGet("a")
	}
}

// A status change of one instance's check, and what follows from it.
func BenchmarkRegisterCheck(b *testing.B) {
	l := newLab(b)
	for i := range 100 {
		l.must(register(fmt.Sprintf("n%d", i), service("w", "web"), check("c", "w", "passing")))
	}
	status := []string{"passing", "critical"}
	b.ReportAllocs()
	for n := range b.N {
		l.must(&Register{Node: node("n7"), SkipNodeUpdate: true, Checks: []*api.HealthCheck{check("c", "w", status[n%2])}})
	}
}
