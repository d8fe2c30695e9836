package clusterid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/muster-dev/muster/pkg/durable"
)

// The file has two slots, which are written in turn and in place, so that a server can
// start on a full disk: a write that is interrupted leaves the other slot intact. Each
// slot is a line of JSON and a line with its CRC-32C; the rest is blank.
const (
	fileDir     = "raft"
	fileName    = "cluster"
	fileVersion = 1
	slotSize    = 32 << 10
)

type content struct {
	Version  int
	Number   uint64               // of the write, from 1
	Cluster  string               `json:",omitempty"`
	Open     bool                 `json:",omitempty"` // there was no raft state yet
	Start    uint64               // of this server
	Runs     []string             // names of the last starts, the newest last
	Peers    map[string]peerStart `json:",omitempty"` // by server id
	Outdated string               `json:",omitempty"` // why the directory may not be used
}

func pathIn(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, fileDir, fileName)
}

// Check says what is wrong with the identity in a data directory, as Open would.
func Check(dataDir string) error {
	saved, err := read(pathIn(dataDir))
	if err == nil && saved.Outdated != "" {
		err = Outdated(saved.Outdated)
	}
	return err
}

func read(path string) (content, error) {
	if path == "" {
		return content{}, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, nil
	}
	if err != nil {
		return content{}, fmt.Errorf("read the cluster id: %w", err)
	}
	var newest content
	for at := 0; at+slotSize <= len(text); at += slotSize {
		if c, ok := parseSlot(text[at : at+slotSize]); ok && c.Number > newest.Number {
			newest = c
		}
	}
	if newest.Number == 0 || len(text) != 2*slotSize {
		return content{}, fmt.Errorf("read the cluster id: %s is %w: its checksum is wrong; restore the data directory, or, if other servers are left, start once with -repair", path, ErrDamaged)
	}
	if newest.Version != fileVersion {
		return content{}, fmt.Errorf("read the cluster id: %s has version %d, this version of muster reads %d: start the newer version again", path, newest.Version, fileVersion)
	}
	return newest, nil
}

func parseSlot(slot []byte) (c content, ok bool) {
	body, rest, _ := bytes.Cut(slot, []byte("\n"))
	sum, _, _ := bytes.Cut(rest, []byte("\n"))
	return c, string(sum) == checksum(body) && json.Unmarshal(body, &c) == nil
}

func checksum(body []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// save stores c on disk, and then in memory. The caller holds mu, or has the only
// reference.
func (i *Identity) save(c content) error {
	c.Version = fileVersion
	c.Number++
	if i.path != "" {
		if err := write(i.path, c); err != nil {
			return fmt.Errorf("store the cluster id: %w", err)
		}
	}
	i.saved = c
	return nil
}

func write(path string, c content) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	slot := make([]byte, slotSize)
	if n := copy(slot, string(body)+"\n"+checksum(body)+"\n"); n == slotSize {
		return fmt.Errorf("write %s: %d bytes are more than there is room for", path, len(body))
	}
	at := int64(c.Number%2) * slotSize
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		whole := make([]byte, 2*slotSize)
		copy(whole[at:], slot)
		if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return durable.WriteFile(path, whole, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(slot, at)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
