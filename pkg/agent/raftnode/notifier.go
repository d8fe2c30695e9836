package raftnode

import "sync"

// leaderNotifier passes raft's leadership changes on to a callback. Raft blocks until a
// change is received, so receiving and calling are two goroutines.
type leaderNotifier struct {
	from <-chan bool
	call func(bool)

	mu      sync.Mutex
	pending []bool        // two at most: a leadership that was not announced is dropped with its end
	more    chan struct{} // one slot
}

func newLeaderNotifier(from <-chan bool, call func(bool)) *leaderNotifier {
	return &leaderNotifier{from: from, call: call, more: make(chan struct{}, 1)}
}

// run returns when done is closed, after it has ended a leadership that it announced.
func (n *leaderNotifier) run(done <-chan struct{}) {
	var receiving sync.WaitGroup
	defer receiving.Wait()
	receiving.Go(func() { n.receive(done) })
	announced := false
	for {
		select {
		case <-n.more:
		case <-done:
			if announced {
				n.call(false)
			}
			return
		}
		for leader, ok := n.next(); ok; leader, ok = n.next() {
			if leader != announced {
				announced = leader
				n.call(leader)
			}
		}
	}
}

func (n *leaderNotifier) receive(done <-chan struct{}) {
	for {
		select {
		case leader := <-n.from:
			n.put(leader)
		case <-done:
			return
		}
	}
}

func (n *leaderNotifier) put(leader bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.pending) - 1; last >= 0 && n.pending[last] && !leader {
		n.pending = n.pending[:last]
	} else {
		n.pending = append(n.pending, leader)
	}
	select {
	case n.more <- struct{}{}:
	default:
	}
}

func (n *leaderNotifier) next() (leader, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		return false, false
	}
	leader = n.pending[0]
	n.pending = n.pending[1:]
	return leader, true
}
