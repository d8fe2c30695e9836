package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/durable"
)

// A server whose log or vote is damaged must not go on under its id: it could vote twice
// in one term, or lack what it has acknowledged. A repair moves its raft data and its id
// aside, and the server joins as a new one. Its tags tell the leader the former id, which
// the leader removes when the new server has a vote.
const (
	replacesFile = "replaces" // the former id, until it is removed
	tagReplaces  = "replaces"

	idFile    = "node-id"
	raftDir   = "raft"
	raftMark  = "raft-id"
	asideName = "repaired-20060102T150405.000Z"

	replacedCheck = 500 * time.Millisecond
)

// Repairer says what Repair works on.
type Repairer struct {
	DataDir string
	Alone   bool     // the configuration says that there is no other server
	Join    []string // addresses of others, as configured
	NodeID  string   // as configured; "": it is in the data directory
	Logger  *slog.Logger
}

// Repair prepares a damaged data directory, so that the server can rejoin its cluster as a
// new one. Files are moved, never deleted. A directory without damage is refused, and so
// is one whose server knows no other from which it could get the data. An interrupted
// repair continues.
func (r Repairer) Repair(ctx context.Context) error {
	if r.DataDir == "" {
		return errors.New("repair: there is no data directory")
	}
	id, err := readText(filepath.Join(r.DataDir, idFile))
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	former, err := readText(filepath.Join(r.DataDir, replacesFile))
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	if former != "" && former != id {
		r.Logger.Info("a repair is under way already", "former id", former)
		return nil
	}
	damage := raftnode.Check(ctx, r.DataDir, r.Logger)
	if damage == nil {
		damage = clusterid.Check(r.DataDir)
	}
	if damage == nil {
		return fmt.Errorf("repair: log, vote and newest snapshot in %s are whole, there is nothing to repair: start without -repair", r.DataDir)
	}
	if !raftnode.IsDamage(damage) && !errors.Is(damage, clusterid.ErrOutdated) && !errors.Is(damage, clusterid.ErrDamaged) {
		return fmt.Errorf("repair: %w", damage)
	}
	if err := r.checkPossible(id); err != nil {
		return fmt.Errorf("repair: %w: %w", err, damage)
	}
	r.Logger.Warn("moving damaged raft data aside", "damage", damage)
	return r.moveAside(id)
}

// checkPossible says why this server cannot be repaired by joining others.
func (r Repairer) checkPossible(id string) error {
	if r.Alone || (len(r.Join) == 0 && !r.knowsServers()) {
		return fmt.Errorf("no other server is known from which this one could get its data; its snapshots are: %s; restore the data directory from a backup", r.snapshots())
	}
	if r.NodeID != "" && strings.EqualFold(r.NodeID, id) {
		return fmt.Errorf("node_id %s is set in the configuration, and a repaired server needs a new one: set another, or none", r.NodeID)
	}
	return nil
}

// knowsServers says whether there is a server among the peers that gossip has stored.
func (r Repairer) knowsServers() bool {
	var kept struct{ Peers []struct{ Server bool } }
	text, err := os.ReadFile(filepath.Join(r.DataDir, "serf", "peers.json"))
	if err != nil || json.Unmarshal(text, &kept) != nil {
		return false
	}
	return slices.ContainsFunc(kept.Peers, func(p struct{ Server bool }) bool { return p.Server })
}

func (r Repairer) snapshots() string {
	found, _ := filepath.Glob(filepath.Join(r.DataDir, raftDir, "snapshots", "*-*-*")) // the pattern is a good one
	if len(found) == 0 {
		return "none"
	}
	return strings.Join(found, ", ")
}

// moveAside begins with the log and ends with the mark that the old id has had a log: in
// between no server starts under that id.
func (r Repairer) moveAside(id string) error {
	aside := filepath.Join(r.DataDir, time.Now().UTC().Format(asideName))
	err := durable.MkdirAll(aside, 0o700)
	if err == nil {
		err = move(r.DataDir, aside, raftDir)
	}
	if err == nil && id != "" {
		err = durable.WriteFile(filepath.Join(r.DataDir, replacesFile), []byte(id+"\n"), 0o600)
	}
	for _, name := range []string{idFile, raftMark} {
		if err == nil {
			err = move(r.DataDir, aside, name)
		}
	}
	if err != nil {
		return fmt.Errorf("repair: move the raft data of %s aside: %w", r.DataDir, err)
	}
	r.Logger.Warn("this server's raft data was moved aside; it joins as a new server, which replaces the former one", "moved to", aside, "former id", id)
	return nil
}

func move(from, to, name string) error {
	err := os.Rename(filepath.Join(from, name), filepath.Join(to, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(to), durable.SyncDir(from))
}

func readText(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// readReplaces reads which server this one replaces. A server that replaces another
// never founds a cluster: its data is in the one that exists.
func (s *Server) readReplaces() error {
	if s.cfg.Raft.DataDir == "" {
		return nil
	}
	former, err := readText(filepath.Join(s.cfg.Raft.DataDir, replacesFile))
	if err != nil {
		return fmt.Errorf("read which server this one replaces: %w", err)
	}
	if s.replaces = former; former != "" {
		s.cfg.Expect, s.cfg.Bootstrap = 0, false
	}
	return nil
}

// runReplacing publishes which server this one replaces, until that one is removed.
func (s *Server) runReplacing(ctx context.Context) {
	if s.replaces == "" {
		return
	}
	s.setTag(ctx, tagReplaces, s.replaces)
	for !s.hasReplaced() {
		if !waitFor(ctx, nil, replacedCheck) {
			return
		}
	}
	if err := durable.Remove(filepath.Join(s.cfg.Raft.DataDir, replacesFile)); err != nil {
		s.cfg.Logger.Warn("could not record that the former server has been removed", "error", err)
	}
	s.setTag(ctx, tagReplaces, "")
	s.cfg.Logger.Info("this server has replaced its former self", "former id", s.replaces)
}

// hasReplaced says whether this server has a vote and the former one is removed.
func (s *Server) hasReplaced() bool {
	servers, _, err := s.node.Configuration()
	return err == nil && isVoter(servers, s.cfg.NodeID) && !isConfigured(servers, s.replaces)
}

func isVoter(servers []raft.Server, id string) bool {
	return slices.ContainsFunc(servers, func(srv raft.Server) bool {
		return string(srv.ID) == id && srv.Suffrage == raft.Voter
	})
}

func isConfigured(servers []raft.Server, id string) bool {
	return slices.ContainsFunc(servers, func(srv raft.Server) bool { return string(srv.ID) == id })
}

// removeReplaced removes the former ids of repaired servers that have a vote.
func (s *Server) removeReplaced(pilot *autopilot.Autopilot, alive map[string]gossip.Server) error {
	servers, _, err := s.node.Configuration()
	if err != nil {
		return err
	}
	var failed error
	for _, srv := range alive {
		former := srv.Tags[tagReplaces]
		if _, lives := alive[former]; former == "" || lives || !isVoter(servers, srv.ID) || !isConfigured(servers, former) {
			continue
		}
		if err := s.removeServer(pilot, gossip.Server{ID: former, Name: srv.Name}, alive); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove server %s, which %s (%s) replaces: %w", former, srv.Name, srv.ID, err))
		}
	}
	return failed
}
