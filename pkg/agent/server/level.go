package server

import (
	"sync"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// levels keeps the feature level at which this leader writes. A server of a lower level
// cannot read an entry, and stops at it. So the level in use never falls, and a server
// below it is not added.
type levels struct {
	mu sync.Mutex
	// pool is the lowest level of those servers in the pool that are not below the level
	// in use; 0: not known since the members changed.
	pool int
	used int // the highest at which this server has proposed, or may have
}

// forget is called when the members have changed.
func (l *levels) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool = 0
}

// writeLevel is the level at which the next command is encoded; from then on it is in
// use. It is the lowest level of all servers, failed ones included, because they may come
// back and read what was written meanwhile; but it is never below the level in use.
func (s *Server) writeLevel() int {
	s.levels.mu.Lock()
	defer s.levels.mu.Unlock()
	l := &s.levels
	if l.pool == 0 {
		l.pool = s.poolLevel(s.cfg.Pool.Members(), l.used)
	}
	l.used = max(l.used, l.pool)
	return l.used
}

// poolLevel is the lowest level of the pool's servers that are not below the level in
// use, at most this program's.
func (s *Server) poolLevel(members []api.Member, used int) int {
	used = max(used, s.views.Snapshot().Level())
	level := state.Level
	for _, m := range members {
		if srv, ok := gossip.ServerOf(m); ok && m.Status != api.MemberLeft && srv.Level >= used {
			level = min(level, srv.Level)
		}
	}
	return level
}

// mayAdd says whether a server can read all that this cluster has written. If so, nothing
// is written from now on that it cannot read, because it is in the pool.
func (s *Server) mayAdd(srv gossip.Server) (ok bool, inUse int) {
	s.levels.mu.Lock()
	defer s.levels.mu.Unlock()
	inUse = max(s.levels.used, s.views.Snapshot().Level())
	if srv.Level < inUse {
		return false, inUse
	}
	s.levels.pool = 0 // it may have been computed without this server
	return true, inUse
}
