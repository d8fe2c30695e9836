package logx

import "sync"

// maxOnce bounds how many keys a Once remembers.
const maxOnce = 256

// Once remembers what was logged, so that what happens repeatedly is logged once. When
// it has 256 keys it forgets them all. The zero value is ready for use; it is safe for
// concurrent use.
type Once struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

// First reports whether it is called with this key for the first time.
func (o *Once) First(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.keys[key]; known {
		return false
	}
	if o.keys == nil || len(o.keys) >= maxOnce {
		o.keys = map[string]struct{}{}
	}
	o.keys[key] = struct{}{}
	return true
}
