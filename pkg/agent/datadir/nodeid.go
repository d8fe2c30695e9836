package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/muster-dev/muster/pkg/durable"
)

const nodeIDFile = "node-id"

// NodeID gives the id of this agent: the configured one, else the one in the data
// directory, else a new one. A new or changed id is on disk, with the directory
// entries that lead to it, before NodeID returns: a power cut may not cost an
// agent its identity. Without a data directory an id lasts as long as the agent.
func NodeID(dataDir, configured string) (string, error) {
	id := strings.ToLower(strings.TrimSpace(configured))
	if id != "" && !IsNodeID(id) {
		return "", fmt.Errorf("node_id %q is not a UUID such as 11111111-2222-3333-4444-555555555555", configured)
	}
	if dataDir == "" {
		if id == "" {
			id = uuid.NewString()
		}
		return id, nil
	}
	path := filepath.Join(dataDir, nodeIDFile)
	stored, err := readNodeID(path)
	if err != nil {
		return "", err
	}
	switch {
	case id == "" && stored != "":
		return stored, nil
	case id == "":
		id = uuid.NewString()
	case id == stored:
		return id, nil
	}
	if err := durable.MkdirAll(dataDir, 0o755); err != nil {
		return "", fmt.Errorf("create data directory: %w", err)
	}
	if err := durable.WriteFile(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("store node id: %w", err)
	}
	return id, nil
}

// IsNodeID says whether s has the form of a node id, a UUID with hyphens.
func IsNodeID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}

func readNodeID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read node id: %w", err)
	}
	id := strings.ToLower(strings.TrimSpace(string(data)))
	if !IsNodeID(id) {
		return "", fmt.Errorf("node id in %s is damaged: it holds no UUID; set node_id to the id that this node had, or remove the file to start as a new node", path)
	}
	return id, nil
}
