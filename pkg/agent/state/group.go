package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Commands that arrive together travel as one entry of the log, a group, which
// costs one place in the log where each would have taken one. They are applied in
// order, each with its own time, result and error, and have the entry's index in
// common. So that an index of a key means one write of it, no two commands of a
// group are about one key: see GroupKey.
//
// A group is its type, its version, and then for each command its length as a
// uvarint and its bytes.
const groupVersion = 1

// GroupKey is the key that a command is about, if it may be in a group: there no
// other command has the same. Else an index would tell two writes as one, and a
// compare-and-set or a fencing token that the first one's proposer got would
// hold for the second one.
func GroupKey(cmd Command) (key string, ok bool) {
	kv, ok := cmd.(*KV)
	if !ok || kv.Op == KVDeleteTree {
		return "", false
	}
	return kv.Entry.Key, true
}

// Group makes one log entry of encoded commands, whose result is the list of
// theirs ([]any). A cluster below LevelGroups cannot read it.
func Group(commands [][]byte) []byte {
	room := 2
	for _, c := range commands {
		room += binary.MaxVarintLen32 + len(c)
	}
	b := append(make([]byte, 0, room), typeGroup, groupVersion)
	for _, c := range commands {
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	return b
}

func isGroup(entry []byte) bool { return len(entry) > 0 && entry[0] == typeGroup }

// ungroup is the reverse of Group. It is all or nothing: the entry is whole.
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
