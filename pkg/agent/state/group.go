package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Commands that arrive together share one entry of the log, a group. They are
// applied in order, each with its own time, result and error, and share the entry's
// index. No two commands of a group have the same key, so that an index of a key
// means one write of it: see GroupKey.
//
// A group is its type, its version, and for each command its length as a uvarint and
// its bytes.
const groupVersion = 1

// GroupKey returns the key of a command that may be in a group. No two commands of a
// group have the same key. Otherwise two writes of a key would have one index, and a
// compare-and-set or a fencing token of the first would be valid for the second.
func GroupKey(cmd Command) (key string, ok bool) {
	kv, ok := cmd.(*KV)
	if !ok || kv.Op == KVDeleteTree {
		return "", false
	}
	return kv.Entry.Key, true
}

// Group makes one log entry of encoded commands. Its result is the list of theirs
// ([]any). A program below LevelGroups cannot read it.
func Group(commands [][]byte) []byte {
	size := 2
	for _, c := range commands {
		size += binary.MaxVarintLen32 + len(c)
	}
	b := append(make([]byte, 0, size), typeGroup, groupVersion)
	for _, c := range commands {
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	return b
}

func isGroup(entry []byte) bool { return len(entry) > 0 && entry[0] == typeGroup }

// ungroup is the reverse of Group.
func ungroup(entry []byte) (commands [][]byte, err error) {
	if len(entry) < 2 || entry[1] != groupVersion {
		return nil, fmt.Errorf("decode a group of commands: its version is not known here (newest is %d): %w", groupVersion, ErrNewer)
	}
	for rest := entry[2:]; len(rest) > 0; {
		n, head := binary.Uvarint(rest)
		if head <= 0 || n > uint64(len(rest)-head) {
			return nil, errors.New("decode a group of commands: it ends within a command")
		}
		commands = append(commands, rest[head:head+int(n)])
		rest = rest[head+int(n):]
	}
	return commands, nil
}
