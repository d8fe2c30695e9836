package state

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestEventLogIsBounded(t *testing.T) {
	l := newLab(t)
	fire := func(payload string) any {
		result, _ := l.do(&EventFire{ID: fmt.Sprint("e", l.index), Name: "x", Payload: []byte(payload), TTL: time.Second})
		return result
	}
	for range api.MaxDurableEvents {
		if err, bad := fire("").(error); bad {
			t.Fatal(err)
		}
	}
	const want = "the log of durable events is full (4096 events): give events a shorter ttl"
	if err, _ := fire("").(error); err == nil || err.Error() != want {
		t.Errorf("one more: %v", err)
	}
	l.reapAt(labTime.Add(time.Hour))
	if n := l.sn.Stats().Events; n != 0 {
		t.Fatalf("%d are left", n)
	}
	big := strings.Repeat("x", api.MaxEventPayload)
	var last any
	n := 0
	for ; n < api.MaxDurableEvents; n++ {
		if _, bad := fire(big).(error); bad {
			break
		}
	}
	last = fire(big)
	if err, _ := last.(error); err == nil || err.Error() != "the log of durable events is full (16 MiB): give events a shorter ttl" || n != api.MaxDurableEventBytes/len(big)-1 {
		t.Errorf("after %d large ones: %v", n, last)
	}
}

// reapAt applies Reap until nothing is left to do, and says how often.
func (l *lab) reapAt(now time.Time) (times int) {
	l.t.Helper()
	for more := true; more; times++ {
		l.index++
		data, err := Encode(&Reap{}, now, Level)
		if err != nil {
			l.t.Fatal(err)
		}
		results, _ := l.s.ApplyBatch([]Entry{{Index: l.index, Data: data}})
		l.sn = l.s.Snapshot()
		more = results[0].(bool)
	}
	return times
}

func TestReapOfManyEventsTakesSeveralCommands(t *testing.T) {
	l := newLab(t)
	for i := range 3000 {
		l.must(&EventFire{ID: fmt.Sprint("e", i), Name: "x", TTL: time.Second})
	}
	l.must(register("n", nil))
	l.must(&EventAck{"e0", "n"})
	if at, _ := l.sn.NextReap(); !at.Equal(labTime.Add(time.Second)) {
		t.Errorf("the next is at %v", at)
	}
	if n := l.reapAt(labTime.Add(time.Second)); n != 3 || l.sn.Stats().Events != 0 {
		t.Errorf("%d commands leave %d events", n, l.sn.Stats().Events)
	}
	if at, _ := l.sn.NextReap(); !at.IsZero() {
		t.Errorf("then the next is at %v", at)
	}
}

func TestEventsThatAreRefused(t *testing.T) {
	l := newLab(t)
	l.must(register("n", nil))
	l.must(&EventFire{ID: "e", Name: "x", TTL: time.Hour})
	for _, tc := range []struct {
		cmd  Command
		want string
	}{
		{&EventFire{ID: "f", TTL: 1}, "Missing name"},
		{&EventFire{ID: "f", Name: "x"}, "event x has no TTL"},
		{&EventFire{ID: "e", Name: "x", TTL: 1}, `event id "e" is taken`},
		{&EventFire{Name: "x", TTL: 1}, `event id "" is taken`},
		{&EventAck{"f", "n"}, `no durable event has the id "f": it has expired, or never was`},
		{&EventAck{"e", "m"}, `node "m" is not registered`},
	} {
		result, touched := l.do(tc.cmd)
		if err, _ := result.(error); err == nil || err.Error() != tc.want || len(touched) > 0 {
			t.Errorf("%+v: %v, touched %v", tc.cmd, result, touched)
		}
	}
}

// An acknowledgement wakes those who count, not those who wait for events.
func TestAckWakesOnlyThoseWhoCount(t *testing.T) {
	l := newLab(t)
	l.must(register("n", nil))
	l.must(&EventFire{ID: "e", Name: "x", TTL: time.Hour})
	_, log := l.sn.EventLog("x", 0)
	_, counts := l.sn.EventLogAcks("x", 0)
	_, one := l.sn.EventAcks("e")
	touched := l.must(&EventAck{"e", "N"})
	if anyWakes(log, touched) || !anyWakes(counts, touched) || !anyWakes(one, touched) {
		t.Errorf("touched %v", touched)
	}
	if again := l.must(&EventAck{"e", "n"}); len(again) > 0 {
		t.Errorf("once more touched %v", again)
	}
	if acks, _ := l.sn.EventAcks("e"); acks.Acks != 1 || len(acks.AckedBy) != 1 || acks.AckedBy[0] != "n" {
		t.Errorf("%+v", acks)
	}
}
