package state

import (
	"fmt"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// txn knows the verbs that the generator uses; it answers with the number of
// results, or the texts of the errors.
func (m *model) txn(c *Txn) any {
	try := m.clone()
	results := 0
	var failed []string
	for i, op := range c.Ops {
		n, why := try.op(op)
		results += n
		if why != "" {
			failed = append(failed, fmt.Sprintf("%d: %s", i, why))
		}
	}
	if failed != nil {
		return failed
	}
	*m = *try
	return results
}

func (m *model) op(op *api.TxnOp) (results int, why string) {
	switch {
	case op.KV != nil:
		e, ok := m.kv[op.KV.Key]
		switch op.KV.Verb {
		case "get":
			if !ok {
				return 0, fmt.Sprintf("key %q doesn't exist", op.KV.Key)
			}
		case "set":
			m.set(api.KVPair{Key: op.KV.Key, Value: op.KV.Value})
		case "delete":
			m.drop(op.KV.Key)
			return 0, ""
		case "lock":
			if _, ok := m.sessions[op.KV.Session]; !ok {
				return 0, fmt.Sprintf("invalid session %q", op.KV.Session)
			}
			if why := m.lock(api.KVPair{Key: op.KV.Key, Value: op.KV.Value, Session: op.KV.Session}); why != "" {
				return 0, why
			}
		case "unlock":
			if !m.unlock(api.KVPair{Key: op.KV.Key, Value: op.KV.Value, Session: op.KV.Session}) {
				return 0, fmt.Sprintf("failed to unlock key %q, lock isn't held, or is held by another session", op.KV.Key)
			}
		case "check-session":
			if !ok {
				return 0, fmt.Sprintf("failed to check session, key %q doesn't exist", op.KV.Key)
			}
			if e.Session != op.KV.Session {
				return 0, fmt.Sprintf("failed session check for key %q, current session %q != %q", op.KV.Key, e.Session, op.KV.Session)
			}
		case "cas":
			if ok != (op.KV.Index != 0) || ok && e.ModifyIndex != op.KV.Index {
				return 0, fmt.Sprintf("failed to set key %q, index is stale", op.KV.Key)
			}
			m.set(api.KVPair{Key: op.KV.Key, Value: op.KV.Value})
		}
		return 1, ""
	case op.Node != nil:
		if op.Node.Verb == "delete" {
			m.removeNode(op.Node.Node.Node, false)
			return 0, ""
		}
		return 1, m.setNode(op.Node.Node)
	case op.Service != nil:
		if op.Service.Verb == "delete" {
			m.removeService(op.Service.Node, op.Service.Service.ID)
			return 0, ""
		}
		if _, ok := m.nodes[strings.ToLower(op.Service.Node)]; !ok {
			return 0, "Missing node registration"
		}
		m.setService(strings.ToLower(op.Service.Node), op.Service.Service)
		return 1, ""
	case op.Check != nil:
		if _, ok := m.nodes[strings.ToLower(op.Check.Check.Node)]; !ok {
			return 0, "Missing node registration"
		}
		return 1, m.setCheck(strings.ToLower(op.Check.Check.Node), op.Check.Check)
	}
	return 0, ""
}
