package sdk

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestEvents(t *testing.T) {
	_, c := start(t, nil)
	events := c.Event()

	id, _, err := events.Fire(&api.UserEvent{Name: "deploy", Payload: []byte("v1\x00\xff")}, nil)
	must(t, err)
	list, meta, err := events.List("deploy", nil)
	must(t, err)
	if len(list) != 1 || list[0].ID != id || string(list[0].Payload) != "v1\x00\xff" || list[0].LTime == 0 || list[0].Version != 1 {
		t.Fatalf("%+v", list)
	}
	if meta.LastIndex != events.IDToIndex(id) {
		t.Errorf("index %d, the client makes %d of the id", meta.LastIndex, events.IDToIndex(id))
	}

	// The official watch waits for the next event in this way.
	type answer struct {
		list []*api.UserEvent
		err  error
	}
	next := make(chan answer, 1)
	go func() {
		list, _, err := events.List("deploy", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 30 * time.Second})
		next <- answer{list, err}
	}()
	select {
	case a := <-next:
		t.Fatalf("did not wait: %+v", a)
	case <-time.After(100 * time.Millisecond):
	}
	_, _, err = events.Fire(&api.UserEvent{Name: "other", NodeFilter: "."}, nil)
	must(t, err)
	second, _, err := events.Fire(&api.UserEvent{Name: "deploy"}, nil)
	must(t, err)
	a := <-next
	must(t, a.err)
	if len(a.list) != 2 || a.list[1].ID != second {
		t.Fatalf("%+v", a.list)
	}

	_, _, err = events.Fire(&api.UserEvent{Name: "x", TagFilter: "y"}, nil)
	if err == nil || !strings.Contains(err.Error(), "Cannot provide tag filter without service filter") {
		t.Error(err)
	}
}
