package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// semaphore is a lock with several holders. The lock's key lists them. Each holder has
// a key of its own beside it, which its session holds and which is deleted with the
// session; a holder counts only as long as its own key is held.
type semaphore struct {
	cfg *Config
	log *slog.Logger
}

// semaphoreValue is the value of a semaphore's key.
type semaphoreValue struct {
	Limit   int
	Holders map[string]bool
}

func (m *semaphore) behavior() string { return api.SessionDelete }

func (m *semaphore) acquire(ctx context.Context, s *session) (grant, error) {
	own := m.cfg.Prefix + "/" + s.id
	var index uint64
	errBackoff := newBackoff()
	for {
		g, next, err := m.tryAcquire(ctx, s, own, index)
		switch {
		case err == nil && g.key != "":
			return g, nil
		case err == nil:
			index = next
			errBackoff.Reset()
			continue
		case ctx.Err() != nil:
			return grant{}, context.Cause(ctx)
		case permanent(err):
			return grant{}, err
		case errBackoff.Failures() == 0:
			m.log.Warn("could not ask for a slot; trying again", "prefix", m.cfg.Prefix, "error", err)
		}
		index = 0
		if err := errBackoff.Sleep(ctx); err != nil {
			return grant{}, err
		}
	}
}

// tryAcquire reads the holders, and acquires a slot if one is free. It waits for a change
// after index. next is the index to wait from if none is free, 0 if somebody was faster.
func (m *semaphore) tryAcquire(ctx context.Context, s *session, own string, index uint64) (g grant, next uint64, err error) {
	pairs, meta, err := m.list(ctx, index)
	if err != nil {
		return grant{}, 0, err
	}
	pair, state, err := m.state(pairs)
	if err != nil {
		return grant{}, 0, err
	}
	if state.Holders[s.id] { // an answer was lost
		for _, p := range pairs {
			if p.Key == own {
				return grant{key: own, sid: s.id, token: p.ModifyIndex}, 0, nil
			}
		}
	}
	if len(state.Holders) >= state.Limit {
		return grant{}, meta.Index, nil
	}
	state.Holders[s.id] = true
	resp, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
		unchanged(lockKey(m.cfg.Prefix), pair),
		m.write(state),
		kv(api.TxnKVOp{Verb: "lock", Key: own, Session: s.id, Flags: semaphoreFlags, Value: m.cfg.Holder.encode()}),
	}, nil)
	if err != nil {
		return grant{}, 0, err
	}
	if token := indexOf(resp, own); token != 0 {
		return grant{key: own, sid: s.id, token: token}, 0, nil
	}
	if refusalOf(resp).badSession() {
		return grant{}, 0, fmt.Errorf("%w: session %s has ended", ErrLost, s.id)
	}
	return grant{}, 0, nil
}

func (m *semaphore) list(ctx context.Context, index uint64) ([]*api.KVPair, client.Meta, error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait+maxWait/16+answerSlack)
	defer cancel()
	return m.cfg.Client.KVList(ctx, m.cfg.Prefix+"/", &client.Options{Index: index, Wait: maxWait})
}

// state finds the semaphore among the keys below its prefix, without holders whose
// session has ended.
func (m *semaphore) state(pairs []*api.KVPair) (*api.KVPair, semaphoreValue, error) {
	key := lockKey(m.cfg.Prefix)
	var found *api.KVPair
	live := map[string]bool{}
	for _, p := range pairs {
		switch {
		case p.Key == key:
			found = p
		case p.Session != "" && p.Key == m.cfg.Prefix+"/"+p.Session:
			live[p.Session] = true
		}
	}
	out := semaphoreValue{Limit: m.cfg.Slots, Holders: map[string]bool{}}
	if found == nil {
		return nil, out, nil
	}
	if found.Flags != semaphoreFlags {
		return nil, out, fmt.Errorf("%w: existing key does not match semaphore use: %s", ErrConflict, key)
	}
	var is semaphoreValue
	if err := json.Unmarshal(found.Value, &is); err != nil {
		return nil, out, fmt.Errorf("%w: read semaphore %s: %w", ErrConflict, key, err)
	}
	if is.Limit != m.cfg.Slots {
		return nil, out, fmt.Errorf("%w: semaphore limit conflict (lock: %d, local: %d): %s", ErrConflict, is.Limit, m.cfg.Slots, key)
	}
	for id := range is.Holders {
		if live[id] {
			out.Holders[id] = true
		}
	}
	return found, out, nil
}

func (m *semaphore) write(state semaphoreValue) *api.TxnOp {
	data, err := json.Marshal(state)
	if err != nil {
		panic("encode a semaphore: " + err.Error()) // strings and a number
	}
	return kv(api.TxnKVOp{Verb: "set", Key: lockKey(m.cfg.Prefix), Flags: semaphoreFlags, Value: data})
}

// release removes us from the list, and deletes the list when it is empty.
func (m *semaphore) release(ctx context.Context, g grant) error {
	for {
		pairs, _, err := m.list(ctx, 0)
		if err != nil {
			return err
		}
		pair, state, err := m.state(pairs)
		if err != nil || pair == nil {
			return err
		}
		delete(state.Holders, g.sid)
		change := m.write(state)
		if len(state.Holders) == 0 {
			change = kv(api.TxnKVOp{Verb: "delete", Key: pair.Key})
		}
		resp, err := m.cfg.Client.Txn(ctx, []*api.TxnOp{
			unchanged(pair.Key, pair), change, kv(api.TxnKVOp{Verb: "delete", Key: g.key}),
		}, nil)
		if err != nil || len(resp.Errors) == 0 {
			return err
		}
	}
}
