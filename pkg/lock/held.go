package lock

import (
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/proc"
)

// Held is a lock while it is held.
type Held struct {
	grant
	session *session
	cfg     *Config
}

// Key is the key that our session holds: the lock's, or that of our slot.
func (h *Held) Key() string { return h.key }

// Session is the id of our session.
func (h *Held) Session() string { return h.sid }

// Token is the fencing token: the index at which the lock was acquired.
func (h *Held) Token() uint64 { return h.token }

// Deadline is when the work under the lock has to end unless the lock is renewed
// before; zero for a safe lock.
func (h *Held) Deadline() proc.Deadline {
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	return h.session.deadline()
}

// Left is the time until the lock counts as lost if it is not renewed; 0 for a safe
// lock.
func (h *Held) Left() time.Duration {
	d := h.Deadline()
	if d.Term == 0 {
		return 0
	}
	return max(0, d.Term-proc.BootTime())
}

// Lost is ErrLost if the lock was not renewed in time. After this process was stopped, it
// is that before the context of the work has ended.
func (h *Held) Lost() error { return h.session.expired() }

// Environ is the lock's part of a child's environment. LOCK_DEADLINE is when the child
// would be killed if no renewal succeeded from now on.
func (h *Held) Environ() []string {
	env := []string{
		"CONSUL_LOCK_HELD=true",
		"LOCK_KEY=" + h.key,
		"LOCK_SESSION=" + h.sid,
		fmt.Sprintf("LOCK_TOKEN=%d", h.token),
	}
	if d := h.Deadline(); d.Kill > 0 {
		at := time.Now().Add(d.Kill - proc.BootTime())
		env = append(env, "LOCK_DEADLINE="+at.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	return env
}
