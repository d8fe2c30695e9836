package state

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// SessionCreate creates a session. The proposer chooses the id. Its result is nil or
// an error.
type SessionCreate struct{ Session api.Session }

// SessionDestroy ends a session: the keys it holds are released or deleted, by its
// Behavior, and cannot be acquired for its LockDelay. Its result is whether the
// session existed.
type SessionDestroy struct{ ID string }

func (*SessionCreate) kind() byte  { return typeSessionCreate }
func (*SessionDestroy) kind() byte { return typeSessionDestroy }

func (*SessionCreate) level() int  { return levelSessions }
func (*SessionDestroy) level() int { return levelSessions }

func (c *SessionCreate) apply(x *tx) any { return x.sessionCreate(c) }
func (c *SessionDestroy) apply(x *tx) any {
	s := x.session(c.ID)
	if s != nil {
		x.endSession(s)
	}
	return s != nil
}

// Clients match on this text.
var errMissingSessionNode = errors.New("Must provide Node")

func (r reader) session(id string) *api.Session {
	return first[api.Session](r, tableSessions, "id", keyOf(id))
}

func (r reader) sessionsOf(node string) iter.Seq[*api.Session] {
	return scan[api.Session](r, tableSessions, "node", nodeKey(node))
}

// checksOfSession are the keys of the checks that a session depends on.
func checksOfSession(s *api.Session) [][]byte {
	node := strings.ToLower(s.Node)
	keys := make([][]byte, 0, len(s.NodeChecks)+len(s.ServiceChecks))
	for _, id := range s.NodeChecks {
		keys = append(keys, keyOf(node, id))
	}
	for _, c := range s.ServiceChecks {
		keys = append(keys, keyOf(node, c.ID))
	}
	return keys
}

// hasChecks says whether a session depends on checks of its node.
func hasChecks(s *api.Session) bool { return len(s.NodeChecks)+len(s.ServiceChecks) > 0 }

func (x *tx) sessionCreate(c *SessionCreate) error {
	s := c.Session
	if s.Node == "" {
		return errMissingSessionNode
	}
	if s.ID == "" || x.session(s.ID) != nil {
		return fmt.Errorf("session id %q is taken", s.ID)
	}
	n := x.node(s.Node)
	if n == nil {
		return errMissingNode
	}
	s.Node = n.Node
	checks := append([]string{}, s.NodeChecks...)
	for _, sc := range s.ServiceChecks {
		checks = append(checks, sc.ID)
	}
	for _, id := range checks {
		switch c := x.check(n.Node, id); {
		case c == nil:
			return fmt.Errorf("Missing check '%s' registration", id)
		case c.Status == api.HealthCritical:
			return fmt.Errorf("Check '%s' is in critical state", id)
		}
	}
	s.CreateIndex, s.ModifyIndex = x.Index, x.Index
	x.stats.Sessions++
	x.insert(tableSessions, &s)
	x.touchSession(&s)
	return nil
}

// endSession removes a session, and releases or deletes the keys that it holds.
func (x *tx) endSession(s *api.Session) {
	for l := range scan[lock](x.reader, tableLocks, "session", keyOf(s.ID)) {
		e := x.kvEntry(l.Key)
		if s.Behavior == api.SessionDelete {
			x.kvDelete(e)
		} else {
			free := *e
			free.Session = ""
			x.kvPut(e, &free)
		}
		if s.LockDelay > 0 {
			x.insert(tableDelays, &lockDelay{l.Key, x.now + int64(min(s.LockDelay, api.MaxLockDelay))})
			x.touch(topicDeadlines, "")
		}
	}
	x.stats.Sessions--
	x.delete(tableSessions, s)
	x.touchSession(s)
}

// endSessionsOfCheck ends the sessions that depend on a check that has turned critical
// or is removed.
func (x *tx) endSessionsOfCheck(c *api.HealthCheck) {
	for s := range scan[api.Session](x.reader, tableSessions, "check", keyOf(strings.ToLower(c.Node), c.CheckID)) {
		x.endSession(s)
	}
}

// endSessionsOfNode ends the sessions of a node that is removed. If its agent has left,
// those that have a TTL and depend on no check stay.
func (x *tx) endSessionsOfNode(node string, left bool) {
	for s := range x.sessionsOf(node) {
		if !left || hasChecks(s) || SessionTTL(s) == 0 {
			x.endSession(s)
		}
	}
}

func (x *tx) touchSession(s *api.Session) {
	x.touch(topicSessions, "")
	x.touch(topicSession, s.ID)
	x.touch(topicNodeSessions, strings.ToLower(s.Node))
}

// SessionTTL is the TTL of a session, 0 for none.
func SessionTTL(s *api.Session) time.Duration {
	d, err := time.ParseDuration(s.TTL)
	if err != nil {
		return 0
	}
	return d
}

// Session returns the session of this id, or nil.
func (sn *Snapshot) Session(id string) (*api.Session, Meta) {
	r := sn.read()
	return r.session(id), r.meta(Watch{Topic: topicSession, Key: id})
}

// NodeSessions returns the sessions of a node in order of ids.
func (sn *Snapshot) NodeSessions(node string) ([]*api.Session, Meta) {
	r := sn.read()
	sessions := []*api.Session{}
	for s := range r.sessionsOf(node) {
		sessions = append(sessions, s)
	}
	return sessions, r.meta(watchName(topicNodeSessions, node))
}

// Sessions returns all sessions in order of ids.
func (sn *Snapshot) Sessions() ([]*api.Session, Meta) {
	r := sn.read()
	sessions := []*api.Session{}
	for s := range scan[api.Session](r, tableSessions, "id_prefix", nil) {
		sessions = append(sessions, s)
	}
	return sessions, r.meta(watchTopic(topicSessions))
}

// Elected returns the node of the session that holds an election, or nil. If nobody
// holds that name, the name in lower case is used: DNS does not preserve case.
func (sn *Snapshot) Elected(name string) (*api.Node, Meta) {
	meta := Meta{Index: 1}
	for _, key := range []string{api.ElectionKey(name), api.ElectionKey(strings.ToLower(name))} {
		e, read := sn.KVGet(key)
		meta.add(read)
		if e == nil || e.Session == "" {
			continue
		}
		s, read := sn.Session(e.Session)
		meta.add(read)
		n, read := sn.Node(s.Node) // the holder of a key is a session that exists
		meta.add(read)
		if n != nil && !sameName(n.Node, s.Node) {
			n = nil // it was found by its id
		}
		return n, meta
	}
	return nil, meta
}
