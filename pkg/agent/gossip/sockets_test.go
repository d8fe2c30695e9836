package gossip

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

var quick = Timing{
	ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond, GossipInterval: 100 * time.Millisecond,
	SuspicionMult: 6, RetransmitMult: 8, GossipNodes: 3,
}

// checkLeaks fails a test after whose end goroutines remain. Memberlist's last
// probe may take a few seconds to notice.
func checkLeaks(t *testing.T) {
	t.Cleanup(func() {
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			err := goleak.Find()
			if err == nil {
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Error(err)
				return
			}
		}
	})
}

func addrOf(n *node) string {
	m := n.Local()
	return net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))
}

func TestRealSockets(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	cfg := func(name string) Config {
		return Config{NodeName: name, BindAddr: "127.0.0.1", Timing: quick, DataDir: filepath.Join(dir, name), EncryptKey: []byte("0123456789abcdef0123456789abcdef")}
	}
	a, b, c := start(t, cfg("a")), start(t, cfg("b")), start(t, cfg("c"))
	for _, n := range []*node{b, c} {
		if _, err := n.Join([]string{addrOf(a)}); err != nil {
			t.Fatal(err)
		}
	}
	waitStatus(t, []*node{a, b, c}, "c", api.MemberAlive, 10*time.Second)

	// Killed: seen as failed. Back on another port: finds its cluster by its peers file.
	waitPeers(t, c, 2)
	c.end()
	waitStatus(t, []*node{a, b}, "c", api.MemberFailed, 20*time.Second)
	c = start(t, cfg("c"))
	if n, err := c.Rejoin(context.Background()); err != nil || n == 0 {
		t.Fatalf("Rejoin: %d, %v", n, err)
	}
	waitStatus(t, []*node{a, b}, "c", api.MemberAlive, 20*time.Second)

	// Left: seen as left, and the next start does not rejoin by itself.
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	c.end()
	waitStatus(t, []*node{a, b}, "c", api.MemberLeft, 10*time.Second)
	c = start(t, cfg("c"))
	if n, err := c.Rejoin(context.Background()); err != nil || n != 0 {
		t.Errorf("Rejoin after a leave: %d, %v", n, err)
	}
	c.end()
	again := cfg("c")
	again.RejoinAfterLeave = true
	c = start(t, again)
	if n, err := c.Rejoin(context.Background()); err != nil || n == 0 {
		t.Errorf("Rejoin after a leave, with RejoinAfterLeave: %d, %v", n, err)
	}
	c.end()
	a.end()
	b.end()
}

// waitPeers waits until the peers file of n names count members.
func waitPeers(t *testing.T, n *node, count int) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		if c, err := n.peers.load(); err == nil && len(c.Peers) == count {
			return
		}
	}
	t.Fatalf("the peers file never named %d members", count)
}

func TestPortInUse(t *testing.T) {
	checkLeaks(t)
	a := start(t, Config{NodeName: "a", BindAddr: "127.0.0.1"})
	defer a.end()
	b := New(Config{NodeName: "b", BindAddr: "127.0.0.1", BindPort: int(a.Local().Port), Timing: quick, Logger: logx.Discard()})
	err := b.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "the port is in use") {
		t.Errorf("Run on a taken port returned %v", err)
	}
	if up := b.AwaitUp(context.Background()); up == nil || err == nil || up.Error() != err.Error() {
		t.Errorf("AwaitUp returned %v, Run %v", up, err)
	}
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"key":       {Config{BindAddr: "127.0.0.1", EncryptKey: []byte("short")}, "16, 24 or 32"},
		"bind":      {Config{BindAddr: "localhost"}, `bind address "localhost" is not an IP`},
		"advertise": {Config{BindAddr: "127.0.0.1", AdvertiseAddr: "me"}, `advertise address "me" is not an IP`},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Logger = logx.Discard()
			err := New(c.cfg).Run(context.Background())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run returned %v, want %q", err, c.want)
			}
		})
	}
}

func TestBeforeRun(t *testing.T) {
	p := New(Config{NodeName: "a", Logger: logx.Discard()})
	if err := p.SetTag("boot", "1"); err != nil {
		t.Errorf("SetTag before Run: %v", err)
	}
	if got := p.Local().Tags["boot"]; got != "1" {
		t.Errorf("the tag set before Run reads %q", got)
	}
	if _, err := p.Join([]string{"127.0.0.1"}); err == nil {
		t.Error("Join before Run succeeded")
	}
	if p.NumNodes() != 0 || len(p.Servers()) != 0 {
		t.Error("a pool that does not run has members")
	}
}

func TestDamagedPeersFile(t *testing.T) {
	dir := t.TempDir()
	f := newPeersFile(dir, "a")
	if got, err := f.read(false); err != nil || got != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
	for name, text := range map[string]string{"torn": `{"Version":1,"Peers":[{"Na`, "newer": `{"Version":9}`, "empty": ""} {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.read(false); err == nil || !strings.Contains(err.Error(), f.path) {
			t.Errorf("%s: read returned %v, want an error that names the file", name, err)
		}
	}
	list := []api.Member{{Name: "a", Addr: "10.0.0.1", Port: 8301, Status: api.MemberAlive},
		{Name: "b", Addr: "10.0.0.2", Port: 8301, Status: api.MemberFailed}, {Name: "c", Addr: "10.0.0.3", Status: api.MemberLeft}}
	if err := f.update(list); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(false); err != nil || len(got) != 1 || got[0] != "10.0.0.2:8301" {
		t.Errorf("after the next change: %v, %v", got, err)
	}
	if err := f.update(list[:1]); err != nil { // alone now: the file is the only way back
		t.Fatal(err)
	}
	if got, _ := f.read(false); len(got) != 1 {
		t.Errorf("an empty membership emptied the file: %v", got)
	}
}
