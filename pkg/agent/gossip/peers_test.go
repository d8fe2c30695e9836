package gossip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/logx"
)

// A directory in which the peers cannot be kept is found at the start.
func TestPeersDirectoryMustBeUsable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "serf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := New(Config{NodeName: "a", NodeID: "a", Datacenter: "dc1", BindAddr: "127.0.0.1", DataDir: dir, Timing: quick, Logger: logx.Discard()})
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "serf")) {
		t.Errorf("error %v", err)
	}
}
