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
//
// A file is replaced as a whole: written beside it, fsynced, renamed, and the
// directory fsynced. Names that are no hash are left alone.
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
}

const (
	servicesDir = "services"
	checksDir   = "checks"
	statesDir   = "checks/state"
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
	err := s.save(servicesDir, p.svc.def.ID, savedService{Version: savedVersion, Token: reg.Token, Service: &kept}, true)
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
	}, true)
}

// saveState keeps what a TTL check was told. One that only says the same again
// is not fsynced: heartbeats are frequent, and losing one loses nothing.
func (s *State) saveState(state *savedState, fsync bool) error {
	return s.save(statesDir, state.CheckID, state, fsync)
}

func (s *State) save(dir, id string, v any, fsync bool) error {
	if s.cfg.DataDir == "" {
		return nil
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = replaceFile(s.path(dir, id), data, fsync)
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
			paths = append(paths, s.path(statesDir, id))
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
	var state savedState
	path := s.path(statesDir, d.ID)
	err := readJSON(path, &state)
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

// replaceFile puts data at path so that a reader sees the old or the new content
// and nothing between. It is 0600, as it may hold tokens.
func replaceFile(path string, data []byte, fsync bool) error {
	dir := filepath.Dir(path)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if fsync {
		return durable.WriteFile(path, data, 0o600)
	}
	// The name is shared by all who come here, one at a time.
	staged := filepath.Join(dir, ".staged")
	if err := os.WriteFile(staged, data, 0o600); err != nil {
		return err
	}
	return os.Rename(staged, path)
}
