package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// hashLen is the length of a registration's file name.
const hashLen = 64

// Load reads the registrations that an earlier run saved on disk. It is called once,
// after the first Reload and before Run. A definition of a configuration file replaces a
// saved one with the same id, which is deleted. A file that cannot be used is logged and
// left as it is; the others are loaded.
func (s *State) Load() error {
	if s.cfg.DataDir == "" {
		return nil
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if err := s.eachSaved(servicesDir, s.loadService); err != nil {
		return err
	}
	return s.eachSaved(checksDir, s.loadCheck)
}

func (s *State) eachSaved(dir string, load func(path string) error) error {
	full := filepath.Join(s.cfg.DataDir, dir)
	entries, err := os.ReadDir(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read kept registrations: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() || len(entry.Name()) != hashLen {
			continue
		}
		path := filepath.Join(full, entry.Name())
		if err := load(path); err != nil {
			s.log.Error("cannot use a kept registration: it is left as it is", "file", path, "error", err)
		}
	}
	return nil
}

func (s *State) loadService(path string) error {
	var saved savedService
	if err := readJSON(path, &saved); err != nil {
		return err
	}
	if saved.Version != savedVersion || saved.Service == nil {
		return fmt.Errorf("version %d is not one that this agent reads (%d)", saved.Version, savedVersion)
	}
	saved.Service.Token = saved.Token
	p, err := s.prepareService(saved.Service, false)
	if err != nil {
		return err
	}
	id := p.svc.def.ID
	if s.hasService(id) {
		s.log.Info("a configuration file defines a service that was registered over HTTP: the file wins", "service", id)
		return s.unsave(id, nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putService(p)
	return nil
}

func (s *State) loadCheck(path string) error {
	var saved savedCheck
	if err := readJSON(path, &saved); err != nil {
		return err
	}
	if saved.Version != savedVersion || saved.Check == nil {
		return fmt.Errorf("version %d is not one that this agent reads (%d)", saved.Version, savedVersion)
	}
	p := &preparedCheck{def: saved.Check, inService: saved.InService, maintenance: saved.Maintenance}
	if !saved.Maintenance {
		if err := s.validateCheck(saved.Check, false); err != nil {
			return err
		}
		p.state = s.ttlState(saved.Check)
	}
	id, serviceID := saved.Check.ID, saved.Check.ServiceID
	if serviceID != "" && !s.hasService(serviceID) {
		if _, err := os.Stat(s.path(servicesDir, serviceID)); err == nil {
			return fmt.Errorf("its service %q could not be loaded", serviceID)
		}
		s.log.Warn("dropping the kept check of a service that is gone", "check", id, "service", serviceID)
		return s.forget("", []string{id})
	}
	s.mu.Lock()
	known := s.checks[id] != nil
	if !known {
		s.putCheck(p)
	}
	s.mu.Unlock()
	if known {
		s.log.Info("a configuration file defines a check that was registered over HTTP: the file wins", "check", id)
		return s.unsave("", []string{id})
	}
	return nil
}
