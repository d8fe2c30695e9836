package state

import (
	"fmt"

	"github.com/muster-dev/muster/pkg/api"
)

// TxnReadOnly says whether operations only read, so that ReadTxn can run them. A KV
// write verb counts as a write even if it would fail.
func TxnReadOnly(ops []*api.TxnOp) bool {
	for _, op := range ops {
		switch {
		case op == nil:
		case op.KV != nil:
			switch op.KV.Verb {
			case "get", "get-tree", "get-or-empty", "check-index", "check-session", "check-not-exists":
			default:
				return false
			}
		case op.Node != nil && op.Node.Verb != "get",
			op.Service != nil && op.Service.Verb != "get",
			op.Check != nil && op.Check.Verb != "get":
			return false
		}
	}
	return true
}

// ReadTxn runs operations for which TxnReadOnly holds.
func (sn *Snapshot) ReadTxn(ops []*api.TxnOp) *api.TxnResponse {
	if !TxnReadOnly(ops) {
		return &api.TxnResponse{Errors: []*api.TxnError{{What: "a transaction that writes cannot run on a snapshot"}}}
	}
	x := &tx{reader: sn.read()}
	return x.txn(ops)
}

// txn runs all operations, even after one has failed, to find every error. If there
// is one, the caller discards what was written.
func (x *tx) txn(ops []*api.TxnOp) *api.TxnResponse {
	resp := &api.TxnResponse{Results: []*api.TxnResult{}}
	for _, run := range []func(*api.TxnOp) ([]*api.TxnResult, error){precheck, x.op} {
		for i, op := range ops {
			if op == nil {
				continue
			}
			results, err := run(op)
			if err != nil {
				resp.Errors = append(resp.Errors, &api.TxnError{OpIndex: i, What: err.Error()})
			}
			resp.Results = append(resp.Results, results...)
		}
		// Errors of precheck are reported without running the operations.
		if len(resp.Errors) > 0 {
			resp.Results = nil
			break
		}
	}
	return resp
}

// precheck returns what is missing from an operation, and sets defaults.
func precheck(op *api.TxnOp) ([]*api.TxnResult, error) {
	switch {
	case op.KV != nil:
		if op.KV.Key == "" && op.KV.Verb != "delete-tree" {
			return nil, errNoKey
		}
	case op.Node != nil:
		if op.Node.Node.Node == "" {
			return nil, errNoNode
		}
	case op.Service != nil:
		if op.Service.Node == "" {
			return nil, errNoNode
		}
		if op.Service.Verb != "get" {
			return nil, checkService(op.Service.Node, &op.Service.Service)
		}
		if op.Service.Service.ID == "" {
			op.Service.Service.ID = op.Service.Service.Service
		}
	case op.Check != nil:
		c := &op.Check.Check
		if c.CheckID == "" {
			c.CheckID = c.Name
		}
		switch {
		case c.Node == "":
			return nil, errNoNode
		case c.CheckID == "":
			return nil, errNoCheckName
		}
	}
	return nil, nil
}

func (x *tx) op(op *api.TxnOp) ([]*api.TxnResult, error) {
	switch {
	case op.KV != nil:
		return x.kvOp(op.KV)
	case op.Node != nil:
		n, err := x.nodeOp(op.Node.Verb, &op.Node.Node)
		if n != nil {
			return []*api.TxnResult{{Node: n}}, err
		}
		return nil, err
	case op.Service != nil:
		s, err := x.serviceOp(op.Service.Verb, op.Service.Node, &op.Service.Service)
		if s != nil {
			return []*api.TxnResult{{Service: nilTags(s)}}, err
		}
		return nil, err
	case op.Check != nil:
		c, err := x.checkOp(op.Check.Verb, &op.Check.Check)
		if c != nil {
			return []*api.TxnResult{{Check: c}}, err
		}
		return nil, err
	}
	return nil, nil
}

// nilTags makes an empty list of tags nil: transactions answer with null.
func nilTags(s *api.NodeService) *api.NodeService {
	if len(s.Tags) > 0 {
		return s
	}
	out := *s
	out.Tags = nil
	return &out
}

func (x *tx) kvOp(op *api.TxnKVOp) ([]*api.TxnResult, error) {
	want := &api.KVPair{Key: op.Key, Value: op.Value, Flags: op.Flags}
	old := x.kvEntry(op.Key)
	switch KVOp(op.Verb) {
	case KVSet:
		e := x.kvSet(want)
		x.expire(op.Key, 0)
		return kvResult(e, false), nil
	case KVCAS:
		e, ok := x.kvCAS(want, op.Index)
		if !ok {
			return nil, fmt.Errorf("failed to set key %q, index is stale", op.Key)
		}
		x.expire(op.Key, 0)
		return kvResult(e, false), nil
	case KVDelete:
		x.kvDelete(old)
		return nil, nil
	case KVDeleteCAS:
		if !x.kvDeleteCAS(op.Key, op.Index) {
			return nil, fmt.Errorf("failed to delete key %q, index is stale", op.Key)
		}
		return nil, nil
	case KVDeleteTree:
		x.kvDeleteTree(op.Key)
		return nil, nil
	case KVLock, KVUnlock:
		want.Session = op.Session
		return x.kvLockOp(op, want)
	}
	return x.kvReadOp(op, old)
}

func (x *tx) kvLockOp(op *api.TxnKVOp, want *api.KVPair) ([]*api.TxnResult, error) {
	if op.Verb == string(KVUnlock) {
		if op.Session == "" {
			return nil, errNoSession
		}
		e, ok := x.kvUnlock(want)
		if !ok {
			return nil, fmt.Errorf("failed to unlock key %q, lock isn't held, or is held by another session", op.Key)
		}
		x.expire(op.Key, 0)
		return kvResult(e, false), nil
	}
	if err := x.checkSession(op.Session); err != nil {
		return nil, err
	}
	switch e, err := x.kvLock(want); err {
	case nil:
		x.expire(op.Key, 0)
		return kvResult(e, false), nil
	case errDelayed:
		return nil, fmt.Errorf("failed to lock key %q due to lock delay", op.Key)
	default:
		return nil, fmt.Errorf("failed to lock key %q, %w", op.Key, err)
	}
}

func (x *tx) kvReadOp(op *api.TxnKVOp, e *api.KVPair) ([]*api.TxnResult, error) {
	switch op.Verb {
	case "get":
		if e == nil {
			return nil, fmt.Errorf("key %q doesn't exist", op.Key)
		}
		return kvResult(e, true), nil
	case "get-or-empty":
		if e == nil {
			e = &api.KVPair{Key: op.Key}
		}
		return kvResult(e, true), nil
	case "get-tree":
		var results []*api.TxnResult
		for e := range scan[api.KVPair](x.reader, tableKV, "id_prefix", []byte(op.Key)) {
			results = append(results, kvResult(e, true)...)
		}
		return results, nil
	case "check-index":
		switch {
		case e == nil:
			return nil, fmt.Errorf("failed to check index, key %q doesn't exist", op.Key)
		case e.ModifyIndex != op.Index:
			return nil, fmt.Errorf("failed index check for key %q, current modify index %d != %d", op.Key, e.ModifyIndex, op.Index)
		}
		return kvResult(e, false), nil
	case "check-session":
		switch {
		case e == nil:
			return nil, fmt.Errorf("failed to check session, key %q doesn't exist", op.Key)
		case e.Session != op.Session:
			return nil, fmt.Errorf("failed session check for key %q, current session %q != %q", op.Key, e.Session, op.Session)
		}
		return kvResult(e, false), nil
	case "check-not-exists":
		if e != nil {
			return nil, fmt.Errorf("key %q exists", op.Key)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("unknown KV verb %q", op.Verb)
}

func kvResult(e *api.KVPair, value bool) []*api.TxnResult {
	if !value && e.Value != nil {
		out := *e
		out.Value = nil
		e = &out
	}
	return []*api.TxnResult{{KV: e}}
}
