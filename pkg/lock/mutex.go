package lock

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// maxWait limits a read that waits, so that one whose connection died unnoticed
// does not wait for ever; slack is what an answer may take beyond it.
const (
	maxWait = 15 * time.Second
	slack   = 5 * time.Second
)

// mutex is the lock that one may hold. Its key is gone while nobody holds it,
// and is there without a session after one that was not released.
type mutex struct {
	cfg *Config
	log *slog.Logger
}

func (m *mutex) behavior() string { return api.SessionRelease }

func (m *mutex) acquire(ctx context.Context, s *session) (grant, error) {
	key := lockKey(m.cfg.Prefix)
	var (
		pair  *api.KVPair // as last read; it begins with the hope that there is none
		index uint64      // what a read that waits starts from
		delay pause       // between attempts under a lock-delay
		fault pause       // between attempts that fail
	)
	// faulty says what to do about an error: nothing more, or wait and read.
	faulty := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case hopeless(err):
			return err
		case fault.n == 0:
			m.log.Warn("could not ask for the lock; trying again", "key", key, "error", err)
		}
		index = 0
		return fault.sleep(ctx, longPause)
	}
	for try := true; ; {
		if try {
			token, why, err := m.take(ctx, s, key, pair)
			switch {
			case err != nil:
				if err := faulty(err); err != nil {
					return grant{}, err
				}
			case token != 0:
				return grant{key: key, sid: s.id, token: token}, nil
			case why.badSession():
				return grant{}, fmt.Errorf("%w: session %s has ended", ErrLost, s.id)
			case why.lockDelay():
				if err := delay.sleep(ctx, delayPause); err != nil {
					return grant{}, err
				}
				continue
			}
			index = 0 // somebody was faster: read what there is
		}
		found, meta, err := waitFor(ctx, m.cfg.Client, key, client.Options{Index: index})
		if err != nil {
			if err := faulty(err); err != nil {
				return grant{}, err
			}
			try = false
			continue
		}
		fault = pause{}
		pair, index = found, meta.Index
		switch {
		case pair == nil:
			try = true
		case pair.Flags != lockFlags:
			return grant{}, fmt.Errorf("%w: existing key does not match lock use: %s", ErrConflict, key)
		case pair.Session == s.id: // an answer was lost
			return grant{key: key, sid: s.id, token: pair.ModifyIndex}, nil
		default:
			try = pair.Session == ""
		}
	}
}

// take takes a lock that is free if it still is as it was read.
func (m *mutex) take(ctx context.Context, s *session, key string, pair *api.KVPair) (token uint64, why refused, err error) {
	resp, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
		unchanged(key, pair),
		kv(api.TxnKVOp{Verb: "lock", Key: key, Session: s.id, Flags: lockFlags, Value: m.cfg.Holder.encode()}),
	}, nil)
	if err != nil {
		return 0, refused{}, err
	}
	return indexOf(resp, key), whyRefused(resp), nil
}

// release removes the key: that frees it, without a lock-delay.
func (m *mutex) release(ctx context.Context, g grant) error {
	_, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
		kv(api.TxnKVOp{Verb: "check-session", Key: g.key, Session: g.sid}),
		kv(api.TxnKVOp{Verb: "delete", Key: g.key}),
	}, nil)
	return err
}

// waitFor reads a key, and waits for its change where o.Index says so.
func waitFor(ctx context.Context, c *client.Client, key string, o client.Options) (*api.KVPair, client.Meta, error) {
	o.Wait = maxWait
	ctx, cancel := context.WithTimeout(ctx, maxWait+maxWait/16+slack)
	defer cancel()
	return c.KVGet(ctx, key, &o)
}
