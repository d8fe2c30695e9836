package funcs

import "fmt"

// scratch holds a template's values for one pass. Its methods that set return ""
// so that a call prints nothing. A key that was never set reads as nil.
type scratch struct{ values map[string]any }

func newScratch() *scratch { return &scratch{values: map[string]any{}} }

// Key reports whether key was set, be it to nil.
func (s *scratch) Key(key string) bool {
	_, set := s.values[key]
	return set
}

// Get returns the value of key.
func (s *scratch) Get(key string) any { return s.values[key] }

// Set sets key.
func (s *scratch) Set(key string, value any) string {
	s.values[key] = value
	return ""
}

// SetX sets key unless it is set.
func (s *scratch) SetX(key string, value any) string {
	if !s.Key(key) {
		s.values[key] = value
	}
	return ""
}

// MapSet sets one entry of the map at key.
func (s *scratch) MapSet(key, entry string, value any) (string, error) {
	m, err := s.mapAt(key)
	if err == nil {
		m[entry] = value
	}
	return "", err
}

// MapSetX sets one entry of the map at key unless it is set.
func (s *scratch) MapSetX(key, entry string, value any) (string, error) {
	m, err := s.mapAt(key)
	if err == nil {
		if _, set := m[entry]; !set {
			m[entry] = value
		}
	}
	return "", err
}

// MapValues returns the values of the map at key, sorted by its keys; none if there is
// no map.
func (s *scratch) MapValues(key string) []any {
	values := []any{}
	m, _ := s.values[key].(map[string]any)
	for _, entry := range sortedKeys(m) {
		values = append(values, m[entry])
	}
	return values
}

func (s *scratch) mapAt(key string) (map[string]any, error) {
	if !s.Key(key) {
		s.values[key] = map[string]any{}
	}
	m, isMap := s.values[key].(map[string]any)
	if !isMap {
		return nil, fmt.Errorf("scratch: %q holds a %T, not a map", key, s.values[key])
	}
	return m, nil
}
