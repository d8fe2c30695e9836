package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// machine is a disk whose power fails, or whose process is killed, in the middle of
// any write. What a write has acknowledged stays; of the one under way each sector
// is written or not; a file that is being made is there or not, of any size; notes
// survive a kill, and a power cut or not.
type machine struct {
	*memory
	random *rand.Rand
	left   int              // calls until it stops; negative: it never does
	fails  int              // one call in so many fails and leaves a part; 0: none
	noted  map[noted][]byte // not on disk yet
}

type noted struct {
	name string
	at   int64
}

var errStopped = errors.New("the machine has stopped")

func newMachine(random *rand.Rand) *machine {
	return &machine{memory: &memory{held: map[string]*memoryFile{}}, random: random, left: -1, noted: map[noted][]byte{}}
}

// step says whether the next call goes through, is the last one, or comes too late.
func (m *machine) step() (last bool, err error) {
	if m.left == 0 {
		return false, errStopped
	}
	m.left--
	return m.left == 0, nil
}

// restart is the machine after the stop.
func (m *machine) restart() {
	for n, data := range m.noted {
		if f := m.held[n.name]; f != nil && m.random.IntN(2) == 0 {
			_ = f.write(data, n.at)
		}
	}
	m.left, m.noted = -1, map[noted][]byte{}
}

func (m *machine) create(name string, size int64) (file, error) {
	last, err := m.step()
	if err != nil {
		return nil, err
	}
	if last {
		switch m.random.IntN(3) {
		case 0:
			m.held[name] = &memoryFile{data: make([]byte, m.random.Int64N(size))}
		case 1:
			m.held[name] = &memoryFile{data: make([]byte, size)}
		}
		return nil, errStopped
	}
	f, err := m.memory.create(name, size)
	return &machineFile{file: f, m: m, name: name}, err
}

func (m *machine) open(name string) (file, error) {
	if m.held[name] == nil {
		return nil, fs.ErrNotExist
	}
	f, err := m.memory.open(name)
	return &machineFile{file: f, m: m, name: name}, err
}

func (m *machine) remove(name string) error {
	last, err := m.step()
	if err != nil {
		return err
	}
	if !last || m.random.IntN(2) == 0 {
		err = m.memory.remove(name)
	}
	if last {
		return errStopped
	}
	return err
}

type machineFile struct {
	file
	m    *machine
	name string
}

func (f *machineFile) write(p []byte, at int64) error {
	last, err := f.m.step()
	if err != nil {
		return err
	}
	fails := f.m.fails > 0 && f.m.random.IntN(f.m.fails) == 0
	if !last && !fails {
		return f.file.write(p, at)
	}
	for from := 0; from < len(p); from += sectorSize {
		if f.m.random.IntN(2) == 0 {
			_ = f.file.write(p[from:from+sectorSize], at+int64(from))
		}
	}
	if last {
		return errStopped
	}
	return syscall.EIO
}

func (f *machineFile) writeLazy(p []byte, at int64) error {
	if f.m.left == 0 {
		return errStopped
	}
	f.m.noted[noted{f.name, at}] = bytes.Clone(p)
	return nil
}

// model is what a store has to hold.
type model struct {
	first, last uint64 // last+1 == first: nothing
	terms       map[uint64]uint64
	values      map[string]uint64
}

func (m model) clone() model {
	m.terms, m.values = maps.Clone(m.terms), maps.Clone(m.values)
	return m
}

// entriesDiffer says what is not as it should be.
func (m model) entriesDiffer(s *Store) error {
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if m.last < m.first {
		if first != 0 || last != 0 {
			return fmt.Errorf("entries %d to %d instead of none", first, last)
		}
	} else if first != m.first || last != m.last {
		return fmt.Errorf("entries %d to %d instead of %d to %d", first, last, m.first, m.last)
	}
	for i := m.first; i <= m.last; i++ {
		var log raft.Log
		if err := s.GetLog(i, &log); err != nil {
			return err
		}
		if log.Term != m.terms[i] || !bytes.Equal(log.Data, data(i, log.Term)) {
			return fmt.Errorf("entry %d is wrong", i)
		}
	}
	return nil
}

func (m model) valuesDiffer(s *Store) error {
	for key, want := range m.values {
		if val, err := s.GetUint64([]byte(key)); val != want || err != nil {
			return fmt.Errorf("%s is %d instead of %d, %v", key, val, want, err)
		}
	}
	return nil
}

// data is long in some entries, blank in others, and differs for each term.
func data(index, term uint64) []byte {
	return append(make([]byte, index*37%1700), fmt.Sprint(index, " ", term)...)
}

// act does one random thing to a store, and gives the model of it done.
func act(s *Store, now model, random *rand.Rand, term uint64) (model, error) {
	then := now.clone()
	count := now.last + 1 - now.first
	switch what := random.IntN(10); {
	case what < 6:
		var logs []*raft.Log
		for range 1 + random.IntN(5) {
			then.last++
			then.terms[then.last] = term
			logs = append(logs, &raft.Log{Index: then.last, Term: term, Data: data(then.last, term)})
		}
		return then, s.StoreLogs(logs)
	case what == 6 && count > 0: // behind a snapshot
		upTo := now.first + random.Uint64N(count)
		then.first = upTo + 1
		return then, s.DeleteRange(now.first, upTo)
	case what == 7 && count > 0: // what another leader overrules
		from := now.last - random.Uint64N(min(count, 4))
		then.last = from - 1
		return then, s.DeleteRange(from, now.last)
	case what == 8:
		then.values["CommitIndex"] = now.values["CommitIndex"] + 1 // never the same
		return then, s.StoreCommitIndex(then.values["CommitIndex"])
	}
	current := now.values[TermKey]
	if current == 0 || now.values[VoteTermKey] == current || random.IntN(2) == 0 {
		then.values[TermKey] = current + term
		return then, s.SetUint64([]byte(TermKey), then.values[TermKey])
	}
	// As raft gives its vote: two calls, and no vote if one of them fails.
	then.values[VoteTermKey], then.values[CandidateKey] = current, 1+random.Uint64N(3)
	if err := s.SetUint64([]byte(VoteTermKey), current); err != nil {
		return then, err
	}
	return then, s.SetUint64([]byte(CandidateKey), then.values[CandidateKey])
}

// possible is what a store may hold: what was acknowledged, and what failed since or
// was under way, which it need not hold.
type possible struct{ entries, values []model }

func (p *possible) check(s *Store) (now model, err error) {
	find := func(models []model, differs func(model, *Store) error) model {
		var all error
		for _, m := range models {
			failed := differs(m, s)
			if failed == nil {
				return m
			}
			all = errors.Join(all, failed)
		}
		err = errors.Join(err, all)
		return model{}
	}
	now = find(p.entries, model.entriesDiffer)
	now.values = find(p.values, model.valuesDiffer).values
	p.entries, p.values = []model{now}, []model{now}
	return now, err
}

// did notes that something was acknowledged, which settles what failed before.
func (p *possible) did(was, now model) {
	if maps.Equal(was.values, now.values) {
		p.entries = nil
	} else {
		p.values = nil
	}
	p.tried(now)
}

func (p *possible) tried(m model) {
	p.entries, p.values = append(p.entries, m), append(p.values, m)
}

// TestStopAtAnyWrite: whatever is done when the machine stops, at each opening the
// store holds all that it had acknowledged, and of what was under way all or
// nothing; a stop during the opening changes nothing. It never calls itself damaged.
func TestStopAtAnyWrite(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(random)
		fails := int(seed%3) * 5
		usual := int64(minSegment + random.IntN(20)*sectorSize)
		now := model{first: 1, terms: map[uint64]uint64{}, values: map[string]uint64{commitKey: 0, TermKey: 0, VoteTermKey: 0, CandidateKey: 0}}
		may := possible{[]model{now}, []model{now}}
		known := false
		for round := range uint64(12) {
			m.left, m.fails = 1+random.IntN(30), fails
			s, err := openFiles(m, usual, known)
			for err == nil {
				known = true
				var then model
				switch then, err = act(s, now, random, round+1); {
				case err == nil:
					may.did(now, then)
					now = then
				case errors.Is(err, syscall.EIO): // raft goes on, and may try again
					may.tried(then)
					if err = errors.Join(now.entriesDiffer(s), now.valuesDiffer(s)); err != nil {
						t.Fatalf("seed %d, round %d: after a failed write: %v", seed, round, err)
					}
				default:
					may.tried(then)
				}
			}
			if !errors.Is(err, errStopped) && !errors.Is(err, syscall.EIO) {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			m.restart()
			m.fails = 0
			if s, err = openFiles(m, usual, known); err != nil {
				t.Fatalf("seed %d, round %d: opening after a stop: %v", seed, round, err)
			}
			known = true
			if now, err = may.check(s); err != nil {
				t.Fatalf("seed %d, round %d: neither what was acknowledged nor what was under way: %v", seed, round, err)
			}
		}
	}
}
