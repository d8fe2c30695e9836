package state

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// The model's sessions and locks.

func (m *model) sessionCreate(s api.Session) any {
	if _, taken := m.sessions[s.ID]; taken {
		return fmt.Sprintf("session id %q is taken", s.ID)
	}
	n, ok := m.nodes[strings.ToLower(s.Node)]
	if !ok {
		return "Missing node registration"
	}
	for _, id := range s.NodeChecks {
		c, ok := m.checks[[2]string{strings.ToLower(s.Node), id}]
		if !ok {
			return fmt.Sprintf("Missing check '%s' registration", id)
		}
		if c.Status == api.HealthCritical {
			return fmt.Sprintf("Check '%s' is in critical state", id)
		}
	}
	s.Node, s.CreateIndex, s.ModifyIndex = n.Node, m.index, m.index
	m.sessions[s.ID] = s
	return nil
}

func (m *model) endSession(id string) {
	s, ok := m.sessions[id]
	if !ok {
		return
	}
	delete(m.sessions, id)
	for key, e := range m.kv {
		if e.Session != id {
			continue
		}
		if s.Behavior == api.SessionDelete {
			m.drop(key)
		} else {
			ends, has := m.ends[key]
			e.Session = ""
			m.put(e)
			delete(m.tokens, key)
			if has {
				m.ends[key] = ends
			}
		}
		if s.LockDelay > 0 {
			m.delays[key] = m.now.Add(min(s.LockDelay, time.Minute))
		}
	}
}

func (m *model) endSessionsOf(check [2]string) {
	for id, s := range m.sessions {
		if strings.EqualFold(s.Node, check[0]) && slices.Contains(s.NodeChecks, check[1]) {
			m.endSession(id)
		}
	}
}

func (m *model) lock(want api.KVPair) string {
	e := m.kv[want.Key]
	want.LockIndex = e.LockIndex
	switch {
	case e.Session == want.Session:
	case e.Session != "":
		return fmt.Sprintf("failed to lock key %q, lock is already held", want.Key)
	case m.now.Before(m.delays[want.Key]):
		return fmt.Sprintf("failed to lock key %q due to lock delay", want.Key)
	default:
		want.LockIndex++
		m.tokens[want.Key] = m.index
	}
	m.put(want)
	return ""
}

func (m *model) unlock(want api.KVPair) bool {
	e, ok := m.kv[want.Key]
	if !ok || e.Session != want.Session {
		return false
	}
	want.Session, want.LockIndex = "", e.LockIndex
	m.put(want)
	delete(m.tokens, want.Key)
	return true
}

// reap also shortens delays that end later than any can that begins now.
func (m *model) reap() bool {
	for key, end := range m.ends {
		if !end.After(m.now) {
			m.drop(key)
		}
	}
	for key, until := range m.delays {
		m.delays[key] = until
		if latest := m.now.Add(time.Minute); until.After(latest) {
			m.delays[key] = latest
		}
	}
	return false
}

func (m *model) sessionsWhere(pick func(api.Session) bool) any {
	return sorted(m.sessions, pick)
}
