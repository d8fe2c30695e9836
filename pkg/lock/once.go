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

// OncePer says when work that has succeeded on some machine is not done again: while
// the last success is younger than Age, or was for the same Value; with both set,
// both must hold. The zero value means that it is always done. Ages are measured by the
// machines' wall clocks, which have to agree that well.
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

// Success is the note of a success.
type Success struct {
	Value string `json:",omitempty"`
	Time  time.Time
	Host  string `json:",omitempty"`
}

// Seen is what Look has found.
type Seen struct {
	Done *Success    // the success for which the work is not done again; nil: it must be done
	pair *api.KVPair // the key of the note, as read
}

// Look reads the note of the last success. Errors that are not permanent are retried
// until ctx ends; the error is ctx's cause then.
func (l *Lock) Look(ctx context.Context, o OncePer) (Seen, error) {
	if o == (OncePer{}) {
		return Seen{}, nil
	}
	var seen Seen
	key := l.onceKey()
	err := l.retry(ctx, "look for an earlier success", func() (err error) {
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

// Note writes a note of a success, even if the lock was lost meanwhile, but does not
// replace a note that somebody else has written since seen. Errors that are not
// permanent are retried until ctx ends: without a note the work would be done again
// elsewhere.
func (l *Lock) Note(ctx context.Context, o OncePer, seen Seen) error {
	if o == (OncePer{}) {
		return nil
	}
	data, err := json.Marshal(Success{Value: o.Value, Time: time.Now().UTC(), Host: l.cfg.Holder.Host})
	if err != nil {
		return fmt.Errorf("encode a success: %w", err)
	}
	key := l.onceKey()
	err = l.retry(ctx, "note the success", func() error {
		// A transaction that is refused is no error: there is a newer note, perhaps our own.
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
