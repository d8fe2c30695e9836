package exec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/durable"
)

// MaxSeen limits the signed orders that are remembered until they expire.
const MaxSeen = 10000

// seen remembers, on disk, the signed orders that were begun. Who replays an old
// one must not have it run again.
type seen struct {
	path string
	mu   sync.Mutex
	ids  map[string]time.Time // when each order expires
}

func loadSeen(path string, now time.Time) (*seen, error) {
	s := &seen{path: path, ids: map[string]time.Time{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.ids)
	}
	if err != nil {
		return nil, fmt.Errorf("read which signed orders were run: %w; remove %s once all orders that were signed are over", err, path)
	}
	s.dropExpired(now)
	return s, nil
}

func (s *seen) dropExpired(now time.Time) {
	for id, expires := range s.ids {
		if !now.Before(expires) {
			delete(s.ids, id)
		}
	}
}

// add records an order. An error says why it must not be run.
func (s *seen) add(id string, expires, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired(now)
	if _, twice := s.ids[id]; twice {
		return errors.New("the signed order was used before")
	}
	if len(s.ids) >= MaxSeen {
		return fmt.Errorf("%d signed orders have not expired yet, and no more can be remembered", MaxSeen)
	}
	s.ids[id] = expires
	data, err := json.Marshal(s.ids)
	if err == nil {
		err = durable.WriteFile(s.path, data, 0o600)
	}
	if err != nil {
		delete(s.ids, id)
		return fmt.Errorf("note that the signed order is used: %w", err)
	}
	return nil
}
