package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
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

// Seen is what a look at the last success has found.
type Seen struct {
	Done *Success    // it spares the work; nil: nothing does
	pair *api.KVPair // the note as it was read
}

// Look looks for a success that spares the work. What may get better, a cluster
// without a leader, an agent that restarts, is waited for until ctx ends; the error is
// ctx's cause then.
func (l *Lock) Look(ctx context.Context, o OncePer) (Seen, error) {
	if o == (OncePer{}) {
		return Seen{}, nil
	}
	var seen Seen
	key := l.onceKey()
	err := l.patiently(ctx, "look for an earlier success", func() (err error) {
		seen.pair, _, err = l.cfg.Client.KVGet(ctx, key, nil)
		return err
	})
	if err != nil || seen.pair == nil {
		return seen, err
	}
	var was Success
	if err := json.Unmarshal(seen.pair.Value, &was); err != nil {
		return seen, fmt.Errorf("read %s: %w; without the key the command runs", key, err)
	}
	if was.Value == o.Value && (o.Age <= 0 || time.Since(was.Time) < o.Age) {
		seen.Done = &was
	}
	return seen, nil
}

// Note notes that the work has succeeded, which stays true when the lock is lost
// meanwhile: only a note that somebody else has made since then stays as it is. As
// long as the agent cannot take it, it is tried again, until ctx ends: what is not
// noted would be done again elsewhere.
func (l *Lock) Note(ctx context.Context, o OncePer, seen Seen) error {
	if o == (OncePer{}) {
		return nil
	}
	data, err := json.Marshal(Success{Value: o.Value, Time: time.Now().UTC(), Host: l.cfg.Holder.Host})
	if err != nil {
		return fmt.Errorf("encode a success: %w", err)
	}
	key := l.onceKey()
	err = l.patiently(ctx, "note the success", func() error {
		// Refused, by somebody's newer note, or by our own whose answer got lost, is done.
		_, err := l.cfg.Client.Txn(ctx, []*api.TxnOp{
			unchanged(key, seen.pair),
			kv(api.TxnKVOp{Verb: "set", Key: key, Value: data}),
		}, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the success in %s: %w", key, err)
	}
	return nil
}

func (l *Lock) onceKey() string { return l.cfg.Prefix + "/" + onceName }
