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
	"strings"

	"github.com/muster-dev/muster/pkg/durable"
)

// The file is a line of JSON and a line with its CRC-32C.
const (
	fileDir     = "raft"
	fileName    = "cluster"
	fileVersion = 1
)

type content struct {
	Version  int
	Cluster  string         `json:",omitempty"`
	Open     bool           `json:",omitempty"` // there was no raft state yet
	Start    uint64         // of this server
	Runs     []string       // names of the last starts, the newest last
	Peers    map[string]met `json:",omitempty"` // by server id
	Outdated string         `json:",omitempty"` // why the directory may not be used
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
	body, sum, _ := strings.Cut(string(text), "\n")
	if strings.TrimSpace(sum) != checksum([]byte(body)) {
		return content{}, fmt.Errorf("read the cluster id: %s is %w: its checksum is wrong; restore the data directory, or, if other servers are left, start once with -repair", path, ErrDamaged)
	}
	var c content
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return content{}, fmt.Errorf("read the cluster id: %s is %w: %w", path, ErrDamaged, err)
	}
	if c.Version != fileVersion {
		return content{}, fmt.Errorf("read the cluster id: %s has version %d, this version of muster reads %d: start the newer version again", path, c.Version, fileVersion)
	}
	return c, nil
}

func checksum(body []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// save makes c what is saved, once it is on disk. The caller holds mu, or has the only
// reference.
func (i *Identity) save(c content) error {
	c.Version = fileVersion
	if i.path != "" {
		body, err := json.Marshal(c)
		if err == nil {
			err = durable.MkdirAll(filepath.Dir(i.path), 0o700)
		}
		if err == nil {
			err = durable.WriteFile(i.path, bytes.Join([][]byte{body, []byte(checksum(body)), nil}, []byte("\n")), 0o600)
		}
		if err != nil {
			return fmt.Errorf("store the cluster id: %w", err)
		}
	}
	i.saved = c
	return nil
}
