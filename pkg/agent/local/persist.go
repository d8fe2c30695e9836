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

// Registrations over HTTP are saved in the data directory, each in a JSON file:
//
//	services/<sha256 of the id>       savedService
//	checks/<sha256 of the id>         savedCheck, also for checks of services
//	checks/state/<sha256 of the id>   savedState of a TTL check
//	checks/state/<...>.beat           savedState of a later heartbeat
//
// A file is replaced as a whole: a new one is written and fsynced, then renamed, and the
// directory is fsynced. Only heartbeats are not fsynced. A power cut may leave such a
// file empty, so a heartbeat never replaces the file of the state. Files whose names are
// no hash are ignored.
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
	Told    time.Time // when the client set it; the later of state and heartbeat counts
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

// saveService saves a service and its checks. Called with disk held, as all functions of
// this file.
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

// saveState saves the state of a TTL check. Heartbeats are frequent, so one that repeats
// the status is written without fsync, as long as the state that is safe on disk has at
// least half of its time left. After a power cut a check may then expire earlier.
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

// unsave removes the files of registrations that configuration files define now. The
// state of TTL checks stays.
func (s *State) unsave(serviceID string, checkIDs []string) error {
	return s.remove(serviceID, checkIDs, false)
}

// forget removes all files of a service ("" for none) and of checks.
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

// ttlState returns the state of a TTL check that an earlier run saved; nil if there is
// none or it has expired.
func (s *State) ttlState(d *api.CheckDefinition) *savedState {
	if s.cfg.DataDir == "" || check.Type(d) != check.TypeTTL {
		return nil
	}
	var state, beat savedState
	path := s.path(statesDir, d.ID)
	err := readJSON(path, &state)
	if readJSON(path+beatSuffix, &beat) == nil && beat.CheckID == d.ID && beat.Told.After(state.Told) {
		state, err = beat, nil // a heartbeat that a power cut damaged is ignored
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

// replaceBeat replaces the file at path. As long as the machine runs, a reader sees the
// old or the new content.
func replaceBeat(path string, data []byte) error {
	// One name is enough, because disk is held.
	staged := filepath.Join(filepath.Dir(path), ".staged")
	if err := os.WriteFile(staged, data, 0o600); err != nil {
		return err
	}
	return os.Rename(staged, path)
}
