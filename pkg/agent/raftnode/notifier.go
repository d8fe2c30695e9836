package raftnode

import "sync"

// herald carries raft's leadership changes to a callback. Raft blocks until it
// has been heard, so listening and calling are two goroutines.
type leaderNotifier struct {
	from <-chan bool
	call func(bool)

	mu      sync.Mutex
	pending []bool        // at most two: a reign that nobody has heard of is struck out
	more    chan struct{} // one slot
}

func newLeaderNotifier(from <-chan bool, call func(bool)) *leaderNotifier {
	return &leaderNotifier{from: from, call: call, more: make(chan struct{}, 1)}
}

// run ends when done is closed. A leadership that was announced is ended first.
func (h *leaderNotifier) run(done <-chan struct{}) {
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { h.listen(done) })
	announced := false
	for {
		select {
		case <-h.more:
		case <-done:
			if announced {
				h.call(false)
			}
			return
		}
		for {
			leader, ok := h.next()
			if !ok {
				break
			}
			if leader != announced {
				announced = leader
				h.call(leader)
			}
		}
	}
}

func (h *leaderNotifier) listen(done <-chan struct{}) {
	for {
		select {
		case leader := <-h.from:
			h.put(leader)
		case <-done:
			return
		}
	}
}

func (h *leaderNotifier) put(leader bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.pending); n > 0 && h.pending[n-1] && !leader {
		h.pending = h.pending[:n-1]
	} else {
		h.pending = append(h.pending, leader)
	}
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *leaderNotifier) next() (leader, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.pending) == 0 {
		return false, false
	}
	leader = h.pending[0]
	h.pending = h.pending[1:]
	return leader, true
}
