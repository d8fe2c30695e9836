package state

import (
	"bytes"
	"os"
	"testing"
)

const clusterGolden = "testdata/snapshot-v3.bin"

// The first id of a cluster stays, through snapshots too, and only a state with one
// needs the version of the format that has it.
func TestClusterID(t *testing.T) {
	l := fullLab(t)
	if v := l.bytes()[len(snapshotMagic)]; v != 2 || l.s.Snapshot().ClusterID() != "" {
		t.Errorf("without an id the snapshot has version %d and the id %q", v, l.s.Snapshot().ClusterID())
	}
	l.must(&ClusterID{uuid1})
	l.must(&ClusterID{uuid1})
	results, touched := l.s.ApplyBatch([]Entry{l.entry(&ClusterID{uuid2}, 90)})
	if err, ok := results[0].(error); !ok || len(touched) != 0 {
		t.Errorf("another id: %v, touched %v", err, touched)
	}
	if *update {
		if err := os.WriteFile(clusterGolden, l.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := restoreGolden(t, clusterGolden, l)
	if got := s.Snapshot().ClusterID(); got != uuid1 {
		t.Errorf("restored, it is %q", got)
	}
	for what, sn := range map[string]*Snapshot{"applied": l.s.Snapshot(), "restored": s.Snapshot()} {
		if got := sn.Level(); got != LevelClusterID {
			t.Errorf("%s, the level in use is %d", what, got)
		}
	}
	golden, err := os.ReadFile(clusterGolden)
	if err != nil || !bytes.Equal(golden, l.bytes()) {
		t.Error("the same log gives another snapshot than it did when the golden file was written")
	}
}

func TestClusterIDNeedsItsLevel(t *testing.T) {
	if _, err := Encode(&ClusterID{uuid1}, labTime, LevelClusterID-1); err == nil {
		t.Error("a cluster with older servers gets an id")
	}
	data, err := Encode(&ClusterID{uuid1}, labTime, LevelClusterID)
	if err != nil {
		t.Fatal(err)
	}
	if cmd, _, err := Decode(data); err != nil || cmd.(*ClusterID).ID != uuid1 {
		t.Errorf("it reads back as %v, %v", cmd, err)
	}
}
