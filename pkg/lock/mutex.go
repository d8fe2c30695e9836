package lock

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
)

// maxWait limits a blocking query, so that one on a dead connection ends; answerSlack is
// how much longer its answer may take.
const (
	maxWait     = 15 * time.Second
	answerSlack = 5 * time.Second
)

// mutex is a lock with one holder. Its key is absent while nobody holds it, and
// has no session after a holder that did not release it.
type mutex struct {
	cfg *Config
	log *slog.Logger
}

func (m *mutex) behavior() string { return api.SessionRelease }

func (m *mutex) acquire(ctx context.Context, s *session) (grant, error) {
	key := lockKey(m.cfg.Prefix)
	var (
		pair       *api.KVPair                                                // as last read; the first attempt assumes that there is none
		index      uint64                                                     // of the last read, for the next blocking query
		delay      = retry.Backoff{First: firstBackoff, Max: maxDelayBackoff} // under a lock-delay
		errBackoff = newBackoff()
	)
	// failed pauses after an error, or returns it where it is permanent.
	failed := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err):
			return err
		case errBackoff.Failures() == 0:
			m.log.Warn("could not ask for the lock; trying again", "key", key, "error", err)
		}
		index = 0
		return errBackoff.Sleep(ctx)
	}
	for free := true; ; {
		if free {
			token, why, err := m.tryAcquire(ctx, s, key, pair)
			switch {
			case err != nil:
				if err := failed(err); err != nil {
					return grant{}, err
				}
			case token != 0:
				return grant{key: key, sid: s.id, token: token}, nil
			case why.badSession():
				return grant{}, fmt.Errorf("%w: session %s has ended", ErrLost, s.id)
			case why.lockDelay():
				if err := delay.Sleep(ctx); err != nil {
					return grant{}, err
				}
				continue
			}
			index = 0 // somebody was faster: read the key
		}
		found, meta, err := waitFor(ctx, m.cfg.Client, key, client.Options{Index: index})
		if err != nil {
			if err := failed(err); err != nil {
				return grant{}, err
			}
			free = false
			continue
		}
		errBackoff.Reset()
		pair, index = found, meta.Index
		switch {
		case pair == nil:
			free = true
		case pair.Flags != lockFlags:
			return grant{}, fmt.Errorf("%w: existing key does not match lock use: %s", ErrConflict, key)
		case pair.Session == s.id: // an answer was lost
			return grant{key: key, sid: s.id, token: pair.ModifyIndex}, nil
		default:
			free = pair.Session == ""
		}
	}
}

// tryAcquire acquires a free lock whose key is still as it was read.
func (m *mutex) tryAcquire(ctx context.Context, s *session, key string, pair *api.KVPair) (token uint64, why refusal, err error) {
	resp, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
		unchanged(key, pair),
		kv(api.TxnKVOp{Verb: "lock", Key: key, Session: s.id, Flags: lockFlags, Value: m.cfg.Holder.encode()}),
	}, nil)
	if err != nil {
		return 0, refusal{}, err
	}
	return indexOf(resp, key), refusalOf(resp), nil
}

// release deletes the key, which frees the lock without a lock-delay.
func (m *mutex) release(ctx context.Context, g grant) error {
	_, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
		kv(api.TxnKVOp{Verb: "check-session", Key: g.key, Session: g.sid}),
		kv(api.TxnKVOp{Verb: "delete", Key: g.key}),
	}, nil)
	return err
}

// waitFor reads a key; with o.Index it waits for a change.
func waitFor(ctx context.Context, c *client.Client, key string, o client.Options) (*api.KVPair, client.Meta, error) {
	o.Wait = maxWait
	ctx, cancel := context.WithTimeout(ctx, maxWait+maxWait/16+answerSlack)
	defer cancel()
	return c.KVGet(ctx, key, &o)
}
