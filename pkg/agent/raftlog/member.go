package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-dev/muster/pkg/durable"
)

// A server that has lost its log has forgotten its votes, and must not vote again under the
// id that the others know. So an id that has ever had a log is recorded beside the log's
// directory, and a missing log is detected.
const (
	memberFile = "raft-id"
	idFile     = "node-id"
)

// checkMember refuses a directory without a log whose id has had one. dir is the
// log's; exists says that there is a log.
func checkMember(dir string, exists bool) error {
	if exists {
		return nil
	}
	data := filepath.Dir(dir)
	id, err := readLine(filepath.Join(data, idFile))
	if err != nil || id == "" {
		return err
	}
	had, err := readLine(filepath.Join(data, memberFile))
	if err != nil {
		return err
	}
	if had != id {
		return nil
	}
	return fmt.Errorf("the raft log in %s is gone, while this server still has the id %s under which it may have voted: %w", dir, id, ErrLost)
}

// markMember records the id, if the data directory has one.
func markMember(dir string) error {
	data := filepath.Dir(dir)
	id, err := readLine(filepath.Join(data, idFile))
	if err != nil || id == "" {
		return err
	}
	path := filepath.Join(data, memberFile)
	if had, err := readLine(path); err != nil || had == id {
		return err
	}
	if err := durable.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the server's id: %w", err)
	}
	return nil
}

// readLine gives the text of a file, "" if there is no such file.
func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return strings.TrimSpace(string(text)), nil
}
