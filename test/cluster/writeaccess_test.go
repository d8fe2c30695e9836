package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// A server at whose address nobody may write takes the writes of the cluster's
// agents, and its own.
func TestWritesThatAreNotAllowedHere(t *testing.T) {
	c := harness.New(t)
	s := c.Add("s1", true, "-bootstrap-expect=1",
		`-hcl=http_config { allow_write_http_from = ["192.0.2.0/24"] block_endpoints = ["/v1/catalog/register", "/v1/kv/secret"] }`,
		`-hcl=service { name = "own" port = 1 }`)
	s.Start()
	at := c.Add("c1", false)
	at.Start()
	harness.Until(t, "a write of another agent", func(ctx context.Context) error {
		ok, err := at.KVPut(ctx, "secret", []byte("v"), client.KVWrite{}, nil)
		return errors.Join(err, want(ok))
	})
	at.RegisterNode("other", "other", 2)
	harness.Until(t, "the server's own service is in the catalog", func(ctx context.Context) error {
		found, _, err := at.HealthService(ctx, "own", false, nil)
		return errors.Join(err, want(len(found) == 1))
	})
	for _, err := range []error{
		func() error { _, err := s.KVPut(t.Context(), "a", nil, client.KVWrite{}, nil); return err }(),
		func() error { _, _, err := s.KVGet(t.Context(), "secret", nil); return err }(),
	} {
		if !client.IsStatus(err, http.StatusForbidden) {
			t.Errorf("at the server's own address: %v", err)
		}
	}
	if got := at.GetKey("secret", nil); got != "v" {
		t.Errorf("through another agent the key is %q", got)
	}
}

func want(holds bool) error {
	if !holds {
		return fmt.Errorf("not yet")
	}
	return nil
}
