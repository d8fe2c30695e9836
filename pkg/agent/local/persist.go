package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/pkg/agent/check"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/durable"
)

// What was registered over HTTP lies in the data directory, one JSON file each:
//
//	services/<sha256 of the id>       savedService
//	checks/<sha256 of the id>         savedCheck, those of services too
//	checks/state/<sha256 of the id>   savedState of a TTL check
//	checks/state/<...>.beat           what it was told since, if only the same again
//
// A file is replaced as a whole: written beside it, fsynced, renamed, and the
// directory fsynced. Only a beat is not fsynced: a power cut may leave it empty, so
// it never takes the place of a file that was. Names that are no hash are left alone.
const savedVersion = 1

type savedService struct {
	Version int
	Token   string `json:",omitempty"`
	Service *api.AgentServiceRegistration
}

type savedCheck struct {
	Version     int
	Check       *api.CheckDefinition
	InService   bool `json:",omitempty"`
	Maintenance bool `json:",omitempty"`
}

type savedState struct {
	CheckID string
	Status  string
	Output  string
	Expires time.Time
	Told    time.Time // when; the later of state and beat counts
}

const (
	servicesDir = "services"
	checksDir   = "checks"
	statesDir   = "checks/state"
	beatSuffix  = ".beat"
)

func (s *State) path(dir, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(s.cfg.DataDir, dir, hex.EncodeToString(sum[:]))
}

// saveService keeps a service, and its checks, on disk. Called with disk held,
// as everything here.
func (s *State) saveService(reg *api.AgentServiceRegistration, p *prepared) error {
	kept := *reg
	kept.Check, kept.Checks, kept.Token = nil, nil, ""
	err := s.save(servicesDir, p.svc.def.ID, savedService{Version: savedVersion, Token: reg.Token, Service: &kept})
	for _, c := range p.checks {
		if err == nil {
			err = s.saveCheck(c)
		}
	}
	return err
}

func (s *State) saveCheck(p *preparedCheck) error {
	return s.save(checksDir, p.def.ID, savedCheck{
		Version: savedVersion, Check: p.def, InService: p.inService, Maintenance: p.maintenance,
	})
}

// saveState keeps what a TTL check was told. Heartbeats are frequent, so one that
// says the same again is a beat, until half of the time is over that the state on
// disk has: what a power cut takes is at most that a check has less time left.
func (s *State) saveState(state *savedState, durably bool) error {
	if durably {
		return s.save(statesDir, state.CheckID, state)
	}
	if s.cfg.DataDir == "" {
		return nil
	}
	data, err := json.Marshal(state)
	if err == nil {
		err = replaceBeat(s.path(statesDir, state.CheckID)+beatSuffix, data)
	}
	if err != nil {
		return fmt.Errorf("keep %q in %s: %w", state.CheckID, filepath.Join(s.cfg.DataDir, statesDir), err)
	}
	return nil
}

func (s *State) save(dir, id string, v any) error {
	if s.cfg.DataDir == "" {
		return nil
	}
	path := s.path(dir, id)
	data, err := json.Marshal(v)
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = durable.WriteFile(path, data, 0o600) // it may hold tokens
	}
	if err != nil {
		return fmt.Errorf("keep %q in %s: %w", id, filepath.Join(s.cfg.DataDir, dir), err)
	}
	return nil
}

// unsave removes the files of registrations that now come from configuration
// files; what is known of TTL checks stays.
func (s *State) unsave(serviceID string, checkIDs []string) error {
	return s.remove(serviceID, checkIDs, false)
}

// forget removes everything known of a service ("" for none) and of checks.
func (s *State) forget(serviceID string, checkIDs []string) error {
	return s.remove(serviceID, checkIDs, true)
}

func (s *State) remove(serviceID string, checkIDs []string, states bool) error {
	if s.cfg.DataDir == "" {
		return nil
	}
	var paths []string
	if serviceID != "" {
		paths = append(paths, s.path(servicesDir, serviceID))
	}
	for _, id := range checkIDs {
		paths = append(paths, s.path(checksDir, id))
		if states {
			paths = append(paths, s.path(statesDir, id), s.path(statesDir, id)+beatSuffix)
		}
	}
	for _, path := range paths {
		if err := durable.Remove(path); err != nil {
			return fmt.Errorf("forget a registration: %w", err)
		}
	}
	return nil
}

// ttlState is what an earlier run kept of a TTL check, if it still counts.
func (s *State) ttlState(d *api.CheckDefinition) *savedState {
	if s.cfg.DataDir == "" || check.Type(d) != check.TypeTTL {
		return nil
	}
	var state, beat savedState
	path := s.path(statesDir, d.ID)
	err := readJSON(path, &state)
	if readJSON(path+beatSuffix, &beat) == nil && beat.CheckID == d.ID && beat.Told.After(state.Told) {
		state, err = beat, nil // what a power cut left of it counts for nothing
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.log.Error("cannot read the kept state of a TTL check: it starts anew", "file", path, "error", err)
		return nil
	}
	if state.CheckID != d.ID || !check.ValidStatus(state.Status) || !time.Now().Before(state.Expires) {
		return nil
	}
	return &state
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// replaceBeat puts data at path so that a reader sees the old or the new content and
// nothing between, as long as the machine runs.
func replaceBeat(path string, data []byte) error {
	// The name is shared by all who come here, one at a time.
	staged := filepath.Join(filepath.Dir(path), ".staged")
	if err := os.WriteFile(staged, data, 0o600); err != nil {
		return err
	}
	return os.Rename(staged, path)
}
