package raftnode

import (
	"runtime"
	"sync"
)

// A server that cannot go on without breaking a promise (a vote that cannot be
// stored or would be a second one, a committed entry that would be deleted or
// cannot be applied) stops as a whole, in order: Run closes everything and
// returns the reason, and the agent ends with it. Raft itself would panic, or log
// a line and go on.

// fatal holds the first reason to stop.
type fatal struct {
	mu  sync.Mutex
	err error
	hit chan struct{} // closed once there is a reason
}

func newFatal() *fatal { return &fatal{hit: make(chan struct{})} }

// set keeps the first error.
func (f *fatal) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.hit)
	}
}

func (f *fatal) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// halt ends the server for a reason, and the goroutine that calls it, which must be one
// of raft's: it never returns. Raft's deferred calls run, so whoever waits for that
// goroutine goes on, and nothing after the call is done.
func (f *fatal) halt(err error) {
	f.set(err)
	runtime.Goexit()
}

// Fail ends Run with this error: say what was tried, on what, why it cannot go on
// and what to do. A state machine that calls it from ApplyBatch or Restore may
// return what it likes; the entries count as not applied, and no further ones
// come. It returns at once, and works during the start too, which then fails.
func (n *Node) Fail(err error) { n.fatal.set(err) }
