package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// mountSmall gives an agent a data directory on a file system of its own.
func mountSmall(t *testing.T, a *agent, size string) {
	t.Helper()
	dir := a.DataDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("cannot mount a small file system, which takes root: %v", err)
	}
	t.Cleanup(func() {
		a.Kill()
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// A disk that fills up: writes are refused at once and say why, reads go on, also
// after a restart, and writes as soon as there is room.
func TestFaultFullDisk(t *testing.T) {
	full := func(err error) bool {
		var text string
		if err != nil {
			text = err.Error()
		}
		return strings.Contains(text, "no space left for writes in the data directory")
	}
	for name, tt := range map[string]struct {
		fill func(t *testing.T, a *agent) // until writes are refused
		heal func(t *testing.T, a *agent)
	}{
		"by another program": {
			func(t *testing.T, a *agent) {
				f, err := os.Create(filepath.Join(a.DataDir(), "junk"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				for err == nil { // to the last byte
					_, err = f.Write(make([]byte, 1<<16))
				}
			},
			func(t *testing.T, a *agent) {
				if err := os.Remove(filepath.Join(a.DataDir(), "junk")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"by writes": {
			func(t *testing.T, a *agent) {
				began := time.Now()
				for i := 0; time.Since(began) < 30*time.Second; i++ {
					_, err := a.KVPut(t.Context(), fmt.Sprint("fill/", i), bytes.Repeat([]byte{byte(i)}, 400<<10), client.KVWrite{}, nil)
					if full(err) {
						return
					}
					if err != nil {
						t.Fatalf("write %d: %v", i, err)
					}
				}
				t.Fatal("the disk does not fill up")
			},
			func(t *testing.T, a *agent) {
				if err := syscall.Mount("tmpfs", a.DataDir(), "tmpfs", syscall.MS_REMOUNT, "size=96m"); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := unstarted(t)
			mountSmall(t, a, "48m")
			serves(a)
			a.PutKey("kept", "yes")
			if _, err := os.Stat(filepath.Join(a.DataDir(), "raft", "reserve")); err != nil {
				t.Error("no reserve:", err)
			}
			tt.fill(t, a)
			refuses := func(all bool) {
				t.Helper()
				for i := range 20 {
					began := time.Now()
					_, err := a.KVPut(t.Context(), "more", []byte(fmt.Sprint(i)), client.KVWrite{}, nil)
					if err == nil && !all {
						continue
					}
					if !full(err) || !strings.Contains(err.Error(), a.DataDir()) || time.Since(began) > time.Second {
						t.Fatalf("write %d on a full disk: %v after %v", i, err, time.Since(began))
					}
					for _, o := range []*client.Options{nil, {Stale: true}, {Consistent: true}} {
						if got := a.GetKey("kept", o); got != "yes" {
							t.Errorf("on a full disk %q is read", got)
						}
					}
				}
			}
			refuses(true)
			a.Kill()
			serves(a)
			refuses(name == "by another program") // a small one may fit where a large one did not
			tt.heal(t, a)
			harness.Within(t, 10*time.Second, "writes are accepted again", func(ctx context.Context) error {
				_, err := a.KVPut(ctx, "again", []byte("yes"), client.KVWrite{}, nil)
				return err
			})
			a.Kill()
			serves(a)
			if got := a.GetKey("again", nil); got != "yes" {
				t.Errorf("what was written after it: %q", got)
			}
			harness.Within(t, 10*time.Second, "the reserve is back", func(context.Context) error {
				_, err := os.Stat(filepath.Join(a.DataDir(), "raft", "reserve"))
				return err
			})
			if n := a.Said("panic"); n > 0 {
				t.Error("it panicked")
			}
		})
	}
}

// One of three whose disk is full does not keep the others from their work, and
// if it leads it says what is wrong.
func TestFaultFullDiskOfAFollower(t *testing.T) {
	c := harness.New(t)
	var all []*agent
	for i := range 3 {
		all = append(all, c.Add(fmt.Sprint("s", i+1), true, "-bootstrap-expect=3"))
	}
	for _, a := range all {
		mountSmall(t, a, "48m")
	}
	for _, a := range all {
		a.Start()
	}
	awaitOneCluster(c, 3, 3)
	a := c.Follower()
	f, err := os.Create(filepath.Join(a.DataDir(), "junk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1<<16))
	}
	for i := range 50 {
		c.Leader().PutKey(fmt.Sprint("more/", i), strings.Repeat("x", 20<<10))
	}
	reports := func(full int) {
		t.Helper()
		want := fmt.Sprintf(`"Name":"consul.raft.disk.full","Value":%d,`, full)
		harness.Until(t, want, func(context.Context) error {
			if got := ask(a, "GET", "/v1/agent/metrics", ""); !strings.Contains(got.body, want) {
				return errors.New(got.body)
			}
			return nil
		})
	}
	reports(1)
	if n := a.Said("the disk is full, writes are refused"); n != 1 {
		t.Errorf("it said %d times that its disk is full", n)
	}
	if err := errors.Join(f.Truncate(0), f.Close()); err != nil {
		t.Fatal(err)
	}
	harness.Within(t, 20*time.Second, "it has what was written meanwhile", func(ctx context.Context) error {
		pairs, _, err := a.KVList(ctx, "more/", &client.Options{Stale: true})
		if err == nil && len(pairs) != 50 {
			err = fmt.Errorf("%d keys", len(pairs))
		}
		return err
	})
	reports(0)
	if n := a.Said("there is room on the disk again"); n != 1 {
		t.Errorf("it said %d times that there is room again", n)
	}
}
