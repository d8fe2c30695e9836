package api

import "time"

// What becomes of the keys that a session holds when it ends.
const (
	SessionRelease = "release" // they are free
	SessionDelete  = "delete"  // they are gone
)

// Limits of sessions. A lock-delay above MaxLockDelay is honoured as that.
const (
	MaxLockDelay     = time.Minute
	MinSessionTTL    = 10 * time.Second // session_ttl_min
	MaxSessionTTL    = 24 * time.Hour
	DefaultLockDelay = 15 * time.Second
)

// Session is what holds locks. It ends when it is destroyed, when its TTL is over
// without a renewal, when one of its checks turns critical or is removed, and when
// its node is. GET /v1/session/info/ and its like answer with lists of them.
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

// ElectionKey is the key whose holder has won the election of this name. The name
// NAME.leader.<domain> in DNS is the node of the session that holds it.
func ElectionKey(name string) string { return "leader/" + name + "/.lock" }
