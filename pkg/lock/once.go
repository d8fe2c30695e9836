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

// OncePer says when work that has succeeded on some machine is skipped: while the last
// success is younger than Age, or was for the same Value; with both set, both must hold.
// The zero value skips nothing. Ages are measured by the machines' wall clocks, which have
// to agree well enough for that.
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

// Success is the record of a success, as JSON in its key.
type Success struct {
	Value string `json:",omitempty"`
	Time  time.Time
	Host  string `json:",omitempty"`
}

// LastSuccess is what FindSuccess has found.
type LastSuccess struct {
	Done *Success    // the success for which the work is skipped; nil: it must be done
	pair *api.KVPair // the key of the record, as read
}

// FindSuccess reads the record of the last success. Errors that are not permanent are
// retried until ctx ends; the error is ctx's cause then.
func (l *Lock) FindSuccess(ctx context.Context, o OncePer) (LastSuccess, error) {
	if o == (OncePer{}) {
		return LastSuccess{}, nil
	}
	var seen LastSuccess
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

// RecordSuccess records a success, even if the lock was lost meanwhile, but does not
// replace a record that is newer than seen. Errors that are not permanent are retried
// until ctx ends: without a record the work would be done again elsewhere.
func (l *Lock) RecordSuccess(ctx context.Context, o OncePer, seen LastSuccess) error {
	if o == (OncePer{}) {
		return nil
	}
	data, err := json.Marshal(Success{Value: o.Value, Time: time.Now().UTC(), Host: l.cfg.Holder.Host})
	if err != nil {
		return fmt.Errorf("encode a success: %w", err)
	}
	key := l.onceKey()
	err = l.retry(ctx, "note the success", func() error {
		// A transaction that is rolled back is no error: there is a newer record, perhaps our
		// own.
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
