package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/durable"
)

// Limits of the peers file: how many members it names, and how long a change
// may wait so that a burst of them costs one fsync.
const (
	maxPeers   = 128
	peersDelay = 200 * time.Millisecond
)

// peersFile remembers on disk whom we knew. Serf's own snapshot is fsynced so
// rarely that a killed agent forgets everybody.
type peersFile struct {
	path  string // "" keeps nothing
	self  string
	dirty chan struct{}

	lock sync.Mutex // held over every write
	left bool
	last []peer
}

type peer struct {
	Name   string
	Addr   string // ip:port of the gossip port
	Server bool
}

type peersContent struct {
	Version int
	Left    bool // we left gracefully: no rejoin
	Peers   []peer
}

const peersVersion = 1

func newPeersFile(dataDir, self string) *peersFile {
	f := &peersFile{self: self, dirty: make(chan struct{}, 1)}
	if dataDir != "" {
		f.path = filepath.Join(dataDir, "serf", "peers.json")
	}
	return f
}

// prepare makes the directory, so that one that cannot be used is found at the
// start, and not by an agent that crashed and finds nobody.
func (f *peersFile) prepare() error {
	if f.path == "" {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("gossip: make the directory of the peers file: %w", err)
	}
	return nil
}

func (f *peersFile) markDirty() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// keepPeers writes the file whenever the membership has changed, and what is
// still to be written at the end.
func (p *Pool) keepPeers(stop <-chan struct{}) {
	failing := false
	for running := true; running; {
		select {
		case <-stop:
			running = false
		case <-p.peers.dirty:
		}
		err := p.peers.update(p.Members())
		if err != nil && !failing {
			p.cfg.Logger.Warn("could not write the peers file: after a crash this agent may not find its cluster by itself", "error", err)
		}
		failing = err != nil
		select {
		case <-stop:
		case <-time.After(peersDelay):
		}
	}
}

// update writes the members other than ourselves that have not left, servers
// first. While we see nobody, and once we have left, the file stays as it is:
// it is the only way back.
func (f *peersFile) update(list []api.Member) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	peers := pickPeers(list, f.self)
	if f.path == "" || f.left || len(peers) == 0 || slices.Equal(peers, f.last) {
		return nil
	}
	if err := f.write(peersContent{Version: peersVersion, Peers: peers}); err != nil {
		return err
	}
	f.last = peers
	return nil
}

func pickPeers(list []api.Member, self string) []peer {
	var servers, clients []peer
	for _, m := range list {
		if m.Name == self || m.Status == api.MemberLeft || m.Status == api.MemberLeaving {
			continue
		}
		e := peer{Name: m.Name, Addr: net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))}
		if _, e.Server = ServerOf(m); e.Server {
			servers = append(servers, e)
		} else {
			clients = append(clients, e)
		}
	}
	all := append(servers, clients...)
	return all[:min(len(all), maxPeers)]
}

func (f *peersFile) markLeft() error {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.left = true
	if f.path == "" {
		return nil
	}
	c := peersContent{Peers: f.last}
	if f.last == nil {
		c, _ = f.load() // this run met nobody: keep whom the last one knew
	}
	c.Version, c.Left = peersVersion, true
	return f.write(c)
}

// read returns the addresses to rejoin. A file that is not one of ours is an
// error here and replaced at the next change.
func (f *peersFile) read(evenAfterLeave bool) ([]string, error) {
	if f.path == "" {
		return nil, nil
	}
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	if c.Left && !evenAfterLeave {
		return nil, nil
	}
	var addrs []string
	for _, e := range c.Peers {
		addrs = append(addrs, e.Addr)
	}
	return addrs, nil
}

func (f *peersFile) load() (peersContent, error) {
	var c peersContent
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("gossip: read the peers of the last run: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return peersContent{}, fmt.Errorf("gossip: read the peers of the last run from %s: %w", f.path, err)
	}
	if c.Version != peersVersion {
		return peersContent{}, fmt.Errorf("gossip: %s has version %d, this agent reads %d", f.path, c.Version, peersVersion)
	}
	return c, nil
}

func (f *peersFile) write(c peersContent) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = durable.WriteFile(f.path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("gossip: write the peers file: %w", err)
	}
	return nil
}
