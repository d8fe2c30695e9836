package api

import "time"

// What happens to the keys that a session holds when it ends.
const (
	SessionRelease = "release" // they are released
	SessionDelete  = "delete"  // they are deleted
)

// Limits of sessions. A lock-delay above MaxLockDelay counts as MaxLockDelay.
const (
	MaxLockDelay     = time.Minute
	MinSessionTTL    = 10 * time.Second // session_ttl_min
	MaxSessionTTL    = 24 * time.Hour
	DefaultLockDelay = 15 * time.Second
)

// Session holds locks. It ends when it is destroyed, when its TTL ends without a
// renewal, when one of its checks turns critical or is removed, and when its node is
// removed. GET /v1/session/info/ and the other reads answer with lists of them.
type Session struct {
	ID            string
	Name          string
	Node          string
	LockDelay     time.Duration // in JSON nanoseconds
	Behavior      string
	TTL           string // a duration; "" for none
	NodeChecks    []string
	ServiceChecks []SessionServiceCheck
	CreateIndex   uint64
	ModifyIndex   uint64
}

// SessionServiceCheck names a check of a service that a session depends on.
type SessionServiceCheck struct {
	ID        string
	Namespace string
}

// SessionCreate is the body of PUT /v1/session/create. A nil NodeChecks stands for
// ["serfHealth"], an empty one for none; a nil LockDelay for 15 s.
type SessionCreate struct {
	Name          string                `json:",omitempty"`
	Node          string                `json:",omitempty"`
	LockDelay     *Duration             `json:",omitempty"`
	Behavior      string                `json:",omitempty"`
	TTL           string                `json:",omitempty"`
	NodeChecks    []string              `json:",omitzero"`
	ServiceChecks []SessionServiceCheck `json:",omitempty"`
}

// ElectionKey is the key of an election: the session that holds it is elected. In
// DNS NAME.leader.<domain> is the node of that session.
func ElectionKey(name string) string { return "leader/" + name + "/.lock" }
