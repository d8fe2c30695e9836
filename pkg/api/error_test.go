package api

import (
	"errors"
	"testing"
)

func TestAnswerError(t *testing.T) {
	known := []error{ErrNoLeader, ErrNoServers, ErrNoDatacenter, ErrUnknownWrite, ErrNotConsistent}
	for _, c := range []struct {
		code int
		body string
		is   error
	}{
		{500, "No cluster leader", ErrNoLeader},
		{500, "No cluster leader\n", ErrNoLeader},
		{500, "write outcome unknown: leadership lost", ErrUnknownWrite},
		{500, "write outcome unknown: No cluster leader", ErrUnknownWrite},
		{500, "No path to datacenter", ErrNoDatacenter},
		{500, "No cluster leaders", nil},
		{500, "rpc error: No cluster leader", nil},
		{404, "No cluster leader", nil},
		{500, "", nil},
	} {
		err := AnswerError(c.code, []byte(c.body))
		for _, k := range known {
			if errors.Is(err, k) != (k == c.is) {
				t.Errorf("%d %q: is %v: %v", c.code, c.body, k, errors.Is(err, k))
			}
		}
		var status *StatusError
		if !errors.As(err, &status) || status.Code != c.code {
			t.Errorf("%d %q: %#v", c.code, c.body, err)
		}
	}
}
