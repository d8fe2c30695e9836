package dataset_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/dataset"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
	"github.com/muster-dev/muster/pkg/watch"
)

// Results of requests that are not followed any more are dropped. Stored results are used
// at a start without an agent, but not with Fresh.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "cache", "data.json")
		a, b := watch.Request{Path: "/v1/kv/a"}, watch.Request{Path: "/v1/kv/b"}
		begin := func(down, fresh bool) (*dataset.Set, func()) {
			consul := tmpltest.New()
			consul.SetKey("a", "1")
			consul.SetKey("b", "2")
			if down {
				consul.Fail(500)
			}
			c, err := client.New(client.Config{Transport: consul.Transport()})
			if err != nil {
				t.Fatal(err)
			}
			s := dataset.New(dataset.Config{
				Watch: watch.Config{Client: c, Logger: logx.Discard()}, Cache: watch.CacheConfig{Path: path}, Fresh: fresh,
			})
			s.Load()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); s.Run(ctx) }()
			s.Follow(map[watch.Request]bool{a: true, b: true})
			return s, func() { cancel(); <-done }
		}
		s, end := begin(false, false)
		for len(s.Results) < 2 {
			s.Accept(<-s.Frames())
		}
		s.Flush(true)
		if _, yes := s.FromDisk(); yes {
			t.Error("results of an agent are from disk")
		}
		if s.Follow(map[watch.Request]bool{a: true}); len(s.Results) != 1 {
			t.Errorf("%d results of 1 request", len(s.Results))
		}
		end()
		for _, fresh := range []bool{false, true} {
			s, end := begin(true, fresh)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			loaded := s.Tend(false, true)
			savedAt, yes := s.FromDisk()
			if yes == fresh || savedAt.IsZero() != fresh || len(loaded) != len(s.Results) || len(loaded) != map[bool]int{false: 2}[fresh] {
				t.Errorf("fresh %v: %d results, %d from disk, saved %v", fresh, len(s.Results), len(loaded), savedAt)
			}
			end()
		}
	})
}
