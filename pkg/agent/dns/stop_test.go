package dns

import (
	"context"
	"testing"
	"time"
)

// A server that is stopped while it starts ends all the same.
func TestStopDuringStart(t *testing.T) {
	for range 50 {
		cfg := testConfig(manyInstances(1))
		cfg.Addrs = []string{"127.0.0.1:0"}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended := make(chan error, 1)
		go func() { ended <- New(cfg).Run(ctx) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it still runs")
		}
	}
}
