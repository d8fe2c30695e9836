package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// KVPath is the path to read a key, or a prefix, at.
func KVPath(key string) string { return "/v1/kv/" + api.CleanKey(key) }

// checkKey returns an error for a key that the agent would write under another name. A
// leading slash is not a part of the key.
func checkKey(key string) error {
	if plain := strings.TrimPrefix(key, "/"); plain != api.CleanKey(key) {
		return fmt.Errorf("write key %q: it has an empty, \".\" or \"..\" part between its slashes, and agents would take it for %q: write that", key, api.CleanKey(key))
	}
	return nil
}

// KVGet reads one key; nil when there is none.
func (c *Client) KVGet(ctx context.Context, key string, o *Options) (*api.KVPair, Meta, error) {
	pairs, meta, err := c.kvRead(ctx, key, o, "")
	if len(pairs) == 0 {
		return nil, meta, err
	}
	return pairs[0], meta, err
}

// KVList reads every pair under a prefix; none is no error.
func (c *Client) KVList(ctx context.Context, prefix string, o *Options) ([]*api.KVPair, Meta, error) {
	return c.kvRead(ctx, prefix, o, "recurse")
}

func (c *Client) kvRead(ctx context.Context, key string, o *Options, param string) ([]*api.KVPair, Meta, error) {
	return orNil(get[[]*api.KVPair](ctx, c, KVPath(key), o.with(param, "")))
}

// KVKeys lists the keys under a prefix, up to the first separator after it
// unless that is empty; none is no error.
func (c *Client) KVKeys(ctx context.Context, prefix, separator string, o *Options) ([]string, Meta, error) {
	o = o.with("keys", "")
	if separator != "" {
		o = o.with("separator", separator)
	}
	return orNil(get[[]string](ctx, c, KVPath(prefix), o))
}

// KVWrite says how to write or delete a key. CAS, where set, is the ModifyIndex
// the key must have; 0 that it must not exist (for a write).
type KVWrite struct {
	Flags   uint64
	CAS     *uint64
	Acquire string // session id
	Release string // session id
	Recurse bool   // delete only: everything under the prefix
	// TTL, if above zero, is how long after the write the key is removed. Fence
	// ("LOCKKEY:TOKEN") allows the write only while that key is held, with that
	// fencing token. A Consul ignores both.
	TTL   time.Duration
	Fence string
}

// KVPut writes a value. False means that the condition did not hold.
func (c *Client) KVPut(ctx context.Context, key string, value []byte, w KVWrite, o *Options) (bool, error) {
	return c.kvWrite(ctx, http.MethodPut, key, value, w, o)
}

// KVDelete removes a key or, with Recurse, a prefix.
func (c *Client) KVDelete(ctx context.Context, key string, w KVWrite, o *Options) (bool, error) {
	return c.kvWrite(ctx, http.MethodDelete, key, nil, w, o)
}

func (c *Client) kvWrite(ctx context.Context, method, key string, value []byte, w KVWrite, o *Options) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	q := url.Values{}
	if w.Flags != 0 {
		q.Set("flags", strconv.FormatUint(w.Flags, 10))
	}
	if w.CAS != nil {
		q.Set("cas", strconv.FormatUint(*w.CAS, 10))
	}
	if w.Acquire != "" {
		q.Set("acquire", w.Acquire)
	}
	if w.Release != "" {
		q.Set("release", w.Release)
	}
	if w.Recurse {
		q.Set("recurse", "")
	}
	if w.TTL > 0 {
		q.Set("ttl", w.TTL.String())
	}
	if w.Fence != "" {
		q.Set("fence", w.Fence)
	}
	for name, values := range q {
		o = o.with(name, values[0])
	}
	var in any
	if method == http.MethodPut {
		in = value
		if value == nil {
			in = []byte{}
		}
	}
	var ok bool
	_, err := c.Do(ctx, method, KVPath(key), o, in, &ok)
	return ok, err
}

// with copies the options and adds one parameter; an empty name adds none.
func (o *Options) with(name, value string) *Options {
	var out Options
	if o != nil {
		out = *o
	}
	params := url.Values{}
	for k, v := range out.Params {
		params[k] = v
	}
	if name != "" {
		params.Set(name, value)
	}
	out.Params = params
	return &out
}

// Txn applies the operations together or not at all. A rollback (status 409) is
// an answer, not an error: its Errors say why.
//
// Keys are sent as they are, so that any key can be read. A key that could be read by a
// transaction only is not written.
func (c *Client) Txn(ctx context.Context, ops []*api.TxnOp, o *Options) (*api.TxnResponse, error) {
	for _, op := range ops {
		if op == nil || op.KV == nil {
			continue
		}
		switch op.KV.Verb {
		case "set", "cas", "lock", "unlock":
			if op.KV.Key != api.CleanKey(op.KV.Key) {
				return nil, fmt.Errorf("write key %q in a transaction: agents find keys without leading, empty, \".\" and \"..\" parts only: write %q", op.KV.Key, api.CleanKey(op.KV.Key))
			}
		}
	}
	resp, err := c.Stream(ctx, http.MethodPut, "/v1/txn", o, ops)
	if err != nil {
		return nil, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		return nil, statusError(resp)
	}
	var out api.TxnResponse
	return &out, decode(resp.Body, &out)
}
