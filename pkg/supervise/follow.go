package supervise

import (
	"context"
	"fmt"
)

// Changed tells of a change, the first of which starts the child; it does not wait.
func (s *Bound) Changed() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	notify(s.change)
}

// takeChanges is how many changes there are, all of which what comes now knows of.
func (s *Bound) takeChanges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.change:
	default:
	}
	return s.asked
}

// follows notes that the child knows so many changes.
func (s *Bound) follows(changes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = changes
	s.moved.Notify()
	notify(s.news)
}

// Behind says whether there is a change that the child does not know: it was neither
// started nor signalled since.
func (s *Bound) Behind() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followed < s.asked
}

// Followed yields when the child has followed changes, perhaps not yet all of them: see
// Behind. It has one reader.
func (s *Bound) Followed() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.news
}

// Follow waits until the child has followed all changes of before. The error says that
// it will not: ctx has ended, with its cause, or Run has.
func (s *Bound) Follow(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	want := s.asked
	s.mu.Unlock()
	for {
		s.mu.Lock()
		done, moved := s.followed >= want, s.moved.Changed()
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-s.gone:
			return fmt.Errorf("%q has ended before it followed the change", s.name())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
