package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

const onceName = ".once"

// OncePer says when work that has succeeded somewhere need not be done again:
// while the last success is younger than Age, or was for the same Value, or,
// with both, both. The zero value never spares anything. Ages are by the wall
// clocks of the machines, which have to agree that well.
type OncePer struct {
	Value string
	Age   time.Duration
}

// ParseOncePer reads "VALUE", "DURATION" or "VALUE/DURATION".
func ParseOncePer(s string) (OncePer, error) {
	value, rest := s, s
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		value, rest = s[:i], s[i+1:]
	}
	age, err := time.ParseDuration(rest)
	switch {
	case s == "":
		return OncePer{}, nil
	case err != nil:
		return OncePer{Value: s}, nil
	case age <= 0:
		return OncePer{}, fmt.Errorf("once per %q: the time has to be above zero", s)
	case rest == s:
		return OncePer{Age: age}, nil
	}
	return OncePer{Value: value, Age: age}, nil
}

// Success is what is noted of work that succeeded.
type Success struct {
	Value string `json:",omitempty"`
	Time  time.Time
	Host  string `json:",omitempty"`
}

// Done looks for a success that spares the work; nil when there is none.
func (o OncePer) Done(ctx context.Context, c *client.Client, prefix string) (*Success, error) {
	prefix, err := cleanPrefix(prefix)
	if err != nil || o == (OncePer{}) {
		return nil, err
	}
	pair, _, err := c.KVGet(ctx, prefix+"/"+onceName, nil)
	if err != nil || pair == nil {
		return nil, err
	}
	var was Success
	if err := json.Unmarshal(pair.Value, &was); err != nil {
		return nil, fmt.Errorf("read %s: %w", pair.Key, err)
	}
	if was.Value != o.Value || o.Age > 0 && time.Since(was.Time) >= o.Age {
		return nil, nil
	}
	return &was, nil
}

// Note notes a success, unless the lock is not held any more.
func (o OncePer) Note(ctx context.Context, h *Held) error {
	if o == (OncePer{}) {
		return nil
	}
	data, err := json.Marshal(Success{Value: o.Value, Time: time.Now().UTC(), Host: h.cfg.Holder.Host})
	if err != nil {
		return fmt.Errorf("encode a success: %w", err)
	}
	key := h.cfg.Prefix + "/" + onceName
	resp, err := h.cfg.Client.Txn(ctx, []*api.TxnOp{
		kv(api.TxnKVOp{Verb: "check-session", Key: h.key, Session: h.sid}),
		kv(api.TxnKVOp{Verb: "set", Key: key, Value: data}),
	}, nil)
	if err == nil && len(resp.Errors) > 0 {
		err = fmt.Errorf("%w: %s", ErrLost, whyRefused(resp).text)
	}
	if err != nil {
		return fmt.Errorf("note the success in %s: %w", key, err)
	}
	return nil
}
