package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStackStopsInOppositeOrder(t *testing.T) {
	s := newStack(logx.Discard())
	var mu sync.Mutex
	var ended []string
	for _, name := range []string{"a", "b", "c"} {
		s.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	s.stop()
	if !slices.Equal(ended, []string{"c", "b", "a"}) {
		t.Errorf("ended in the order %v", ended)
	}
	select {
	case err := <-s.failed:
		t.Errorf("an orderly end is no failure: %v", err)
	default:
	}
}

func TestStackReportsTheFirstFailure(t *testing.T) {
	s := newStack(logx.Discard())
	s.start("done", func(context.Context) error { return nil })
	s.start("broken", func(context.Context) error { return errors.New("no port") })
	if err := <-s.failed; err == nil || err.Error() != "broken: no port" {
		t.Errorf("got %v", err)
	}
	s.stop()
}

// What outsiders can do is said in one line, if they can.
func TestWarnOfOutsiders(t *testing.T) {
	for name, c := range map[string]struct {
		encrypted, verified, alone bool
		want, not                  string
	}{
		"open":               {false, false, false, "gossip port can join", "\x00"},
		"no CA":              {true, false, false, "server port can read and write", "gossip port"},
		"no key":             {false, true, false, "gossip port can join", "server port"},
		"closed":             {true, true, false, "", "outsiders"},
		"a developer's, own": {false, false, true, "", "outsiders"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			warnOfOutsiders(logx.New(&out, nil, false), c.encrypted, c.verified, c.alone)
			got := out.String()
			if !strings.Contains(got, c.want) || strings.Contains(got, c.not) || strings.Count(got, "\n") > 1 {
				t.Errorf("logged %q", got)
			}
		})
	}
}

// A node is registered with the tagged addresses of its configuration and no others: no
// other datacenter is sent to an address of the LAN.
func TestTaggedAddressesAreThoseOfTheConfiguration(t *testing.T) {
	cfg, _, err := config.Load(config.Sources{Flags: map[string]any{
		"node_name": "n1", "data_dir": t.TempDir(), "advertise_addr": "10.0.0.1", "advertise_addr_wan": "2001:db8::1",
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := New(cfg, Options{Logger: logx.Discard()})
	a.pool = gossip.New(a.gossipConfig())
	want := map[string]string{"lan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "wan": "2001:db8::1", "wan_ipv6": "2001:db8::1"}
	if got := a.localConfig(nil).Node.TaggedAddresses; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
