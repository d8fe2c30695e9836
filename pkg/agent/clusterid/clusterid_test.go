package clusterid

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T, dir, id string) *Identity {
	t.Helper()
	i, err := Open(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// An id is for good once there is state, and until then another one may come.
func TestJoin(t *testing.T) {
	dir := t.TempDir()
	i := open(t, dir, "a")
	if err := i.Join("one"); err != nil {
		t.Fatal(err)
	}
	if err := i.Join("two"); !errors.Is(err, ErrForeign) {
		t.Errorf("a second id: %v", err)
	}
	i = open(t, dir, "a")
	if i.Cluster() != "one" || i.Confirmed() != "" {
		t.Errorf("it joined %q and belongs to %q", i.Cluster(), i.Confirmed())
	}
	if err := i.Confirm(false); err != nil || i.Cluster() != "" {
		t.Errorf("without state it joined %q, %v", i.Cluster(), err)
	}
	if err := errors.Join(i.Join("two"), i.Confirm(true), i.Confirm(false)); err != nil {
		t.Fatal(err)
	}
	if i = open(t, dir, "a"); i.Confirmed() != "two" {
		t.Errorf("it belongs to %q", i.Confirmed())
	}
}

func TestVerifyForeignPeer(t *testing.T) {
	i := open(t, t.TempDir(), "a")
	other := open(t, t.TempDir(), "b")
	if err := errors.Join(i.Join("one"), i.VerifyPeer(other.Hello(""))); err != nil {
		t.Errorf("one that belongs to no cluster: %v", err)
	}
	if err := other.Join("two"); err != nil {
		t.Fatal(err)
	}
	err := i.VerifyPeer(other.Hello(""))
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
		t.Errorf("one of another cluster: %v", err)
	}
}

// A copy of a directory is a past: of who comes with two of them only the first is
// taken, however often the other starts.
func TestMeetCopies(t *testing.T) {
	dir, backup, observer := t.TempDir(), filepath.Join(t.TempDir(), "b"), t.TempDir()
	b := open(t, dir, "b")
	peer := open(t, observer, "a")
	if err := peer.VerifyPeer(b.Hello("")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := peer.VerifyPeer(open(t, dir, "b").Hello("")); err != nil {
			t.Fatalf("a later start: %v", err)
		}
	}
	peer = open(t, observer, "a") // what it knows is on disk
	if err := peer.VerifyPeer(b.Hello("")); !errors.Is(err, ErrOutdated) {
		t.Errorf("an earlier start: %v", err)
	}
	for n := range maxRuns / 2 {
		if err := peer.VerifyPeer(open(t, backup, "b").Hello("")); !errors.Is(err, ErrOutdated) {
			t.Fatalf("start %d of a copy: %v", n, err)
		}
	}
	if err := peer.VerifyPeer(open(t, dir, "b").Hello("")); err != nil {
		t.Errorf("the right one, after all: %v", err)
	}
	if err := peer.VerifyPeer(open(t, t.TempDir(), "b").Hello("")); err != nil {
		t.Errorf("an empty directory is no copy: %v", err)
	}
}

func TestPeersAreBounded(t *testing.T) {
	i := open(t, "", "a")
	for n := range 2 * maxPeers {
		if err := i.VerifyPeer(Hello{ID: fmt.Sprint(n), Start: 1, Runs: []string{"r"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(i.saved.Peers); n != maxPeers {
		t.Errorf("%d are remembered", n)
	}
	if !i.Knows(fmt.Sprint(2*maxPeers-1), 1, "r") || i.Knows("0", 1, "r") {
		t.Error("it is not the oldest that went")
	}
}

func TestOutdatedAndDamagedAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, "a").MarkOutdated("somebody knows better"); err != nil {
		t.Fatal(err)
	}
	for _, check := range []func() error{func() error { return Check(dir) }, func() error { _, err := Open(dir, "a"); return err }} {
		if err := check(); !errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), "somebody knows better") {
			t.Errorf("%v", err)
		}
	}
	text, err := os.ReadFile(pathIn(dir))
	if err != nil {
		t.Fatal(err)
	}
	for n := range text { // in both slots: one alone is what a write that was cut off leaves
		if text[n] == '"' {
			text[n] = '!'
		}
	}
	if err := os.WriteFile(pathIn(dir), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), pathIn(dir)) {
		t.Errorf("damaged: %v", err)
	}
}

// A write that is cut off anywhere leaves what was there before, or all that was written.
func TestCutOffWrite(t *testing.T) {
	dir := t.TempDir()
	i := open(t, dir, "a")
	if err := i.Join("one"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(pathIn(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := i.MarkOutdated("after"); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(pathIn(dir))
	if err != nil || len(after) != len(before) {
		t.Fatalf("%d bytes have become %d, %v", len(before), len(after), err)
	}
	states := map[string]bool{}
	for n := 0; n <= len(after); n += 16 {
		cut := slices.Concat(after[:n], before[n:])
		if err := os.WriteFile(pathIn(dir), cut, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := read(pathIn(dir))
		if err != nil || c.Cluster != "one" {
			t.Fatalf("cut off after %d bytes: %+v, %v", n, c, err)
		}
		states[c.Outdated] = true
	}
	if len(states) != 2 {
		t.Errorf("states %v", states)
	}
}

// What is remembered has room, with the longest names too.
func TestFullFile(t *testing.T) {
	dir := t.TempDir()
	i := open(t, dir, "a")
	for range maxRuns {
		i = open(t, dir, "a")
	}
	for n := range maxPeers + 1 {
		name := fmt.Sprintf("%064d", n)
		if err := i.VerifyPeer(Hello{ID: name, Start: 1 << 63, Runs: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.MarkOutdated(strings.Repeat("y", 1<<16)); err != nil {
		t.Fatal(err)
	}
	if err := i.VerifyPeer(Hello{ID: strings.Repeat("x", maxName+1), Runs: []string{"r"}}); err == nil {
		t.Error("a longer name is taken")
	}
}

func TestFounded(t *testing.T) {
	a, b := Founder{"a", "1"}, Founder{"b", "2"}
	if FoundedBy([]Founder{a, b}) != FoundedBy([]Founder{b, a}) {
		t.Error("the order counts")
	}
	seen := map[string]bool{New(): true, New(): true}
	for _, set := range [][]Founder{{a, b}, {a}, {{"a", "2"}, b}, {{"b", "1"}, {"a", "2"}}} {
		seen[FoundedBy(set)] = true
	}
	if len(seen) != 6 {
		t.Errorf("only %d of 6 are different", len(seen))
	}
}
