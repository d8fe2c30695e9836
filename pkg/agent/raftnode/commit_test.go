package raftnode

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
	"github.com/muster-dev/muster/pkg/logx"
)

// TestCommitIndexIsStoredWhenWritesPause: law 5 after kill -9. What is on disk
// shortly after the last write says that it is committed, on every server.
func TestCommitIndexIsStoredWhenWritesPause(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	c.leader(all)
	c.write(all, "last")
	c.wantLines(all, "last")
	for _, m := range all {
		until(t, m.id+" has stored that the last entry is committed", func() bool {
			return storedCommit(t, m.dir) >= m.AppliedIndex()
		})
	}
}

// storedCommit is the commit index that a start after a crash would find; 0 if a
// write was under way.
func storedCommit(t *testing.T, dir string) uint64 {
	t.Helper()
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(filepath.Join(dir, "raft"))); err != nil {
		t.Fatal(err)
	}
	log, err := raftlog.Open(crashed, logx.Discard())
	if err != nil {
		return 0
	}
	defer log.Close()
	index, err := log.GetCommitIndex()
	if err != nil {
		return 0
	}
	return index
}
