package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/api"
)

// A Command is one change of the state, as a pointer to one of the structs of this
// package. Its effect depends on nothing but the state, the raft index and the time
// at which it was proposed.
type Command interface {
	// kind is the first byte of the encoded command.
	kind() byte
	// level is the lowest feature level that can apply it.
	level() int
	// apply changes the state and returns the command's result, or an error, which
	// changes nothing.
	apply(x *tx) any
}

// Register adds or changes a node, one of its services and some of its checks.
// Its result is nil or an error.
type Register struct {
	Node           *api.Node
	SkipNodeUpdate bool // do not change an existing node record
	Service        *api.NodeService
	Checks         []*api.HealthCheck
}

// Deregister removes the service, else the check, else the whole node. Removing what
// does not exist is no error. Its result is nil.
type Deregister struct {
	Node      string
	ServiceID string
	CheckID   string
	// Left says that the node is removed because its agent has left: sessions that
	// have a TTL and no checks stay until they are destroyed or expire.
	Left bool `codec:",omitempty"`
}

// A KVOp is what a KV command does. The values are those of transactions.
type KVOp string

const (
	KVSet        KVOp = "set"
	KVCAS        KVOp = "cas" // set if the key's ModifyIndex is Index; 0: if absent
	KVLock       KVOp = "lock"
	KVUnlock     KVOp = "unlock"
	KVDelete     KVOp = "delete"
	KVDeleteCAS  KVOp = "delete-cas"
	KVDeleteTree KVOp = "delete-tree" // Entry.Key is a prefix
)

// KV changes one key, or a tree of keys. Of Entry it uses Key, Value, Flags and
// Session. Its result is a bool (false: the condition did not hold), an Acquired for
// a KVLock that succeeded, or an error.
type KV struct {
	Op    KVOp
	Entry api.KVPair
	Index uint64
	// TTL, if above zero, is how long after the write the key is removed.
	TTL   time.Duration
	Fence *Fence // nil for none
}

// Txn runs operations in order, all or none. Its result is a *api.TxnResponse; if it
// has Errors, nothing was changed.
type Txn struct{ Ops []*api.TxnOp }

func (*Register) kind() byte   { return typeRegister }
func (*Deregister) kind() byte { return typeDeregister }
func (*KV) kind() byte         { return typeKV }
func (*Txn) kind() byte        { return typeTxn }

func (*Register) level() int   { return 1 }
func (*Deregister) level() int { return 1 }
func (*Txn) level() int        { return 1 }
func (c *KV) level() int {
	if c.TTL != 0 || c.Fence != nil {
		return levelSessions
	}
	return 1
}

func (c *Register) apply(x *tx) any   { return x.register(c) }
func (c *Deregister) apply(x *tx) any { x.deregister(c); return nil }
func (c *KV) apply(x *tx) any         { return x.kv(c) }
func (c *Txn) apply(x *tx) any        { return x.txn(c.Ops) }

// kvWire is KV as it is encoded, with short names: it is the most frequent command.
type kvWire struct {
	Op      KVOp   `codec:"o"`
	Key     string `codec:"k"`
	Value   []byte `codec:"v,omitempty"`
	Flags   uint64 `codec:"f,omitempty"`
	Session string `codec:"s,omitempty"`
	Index   uint64 `codec:"i,omitempty"`

	TTL   time.Duration `codec:"t,omitempty"`
	Fence *Fence        `codec:"n,omitempty"`
}

// The first byte of an encoded command. The numbers never change.
const (
	typeRegister   = 1
	typeDeregister = 2
	typeKV         = 3
	typeTxn        = 4

	typeSessionCreate  = 5
	typeSessionDestroy = 6
	typeReap           = 7

	typeEventFire = 8
	typeEventAck  = 9
	typeGroup     = 10 // of commands; see Group
	typeClusterID = 11
	typeJobCreate = 20
	typeJobClaim  = 21
	typeJobReport = 22
	typeJobStop   = 23
	typeJobReap   = 24
)

// commandVersion is the second byte: the newest encoding that this program knows. A
// command whose meaning or fields change gets the next one, and the older ones stay
// readable. So do the verbs and rules of transactions. The log contains what users
// sent, so an unknown verb of a transaction is an error for them and not a reason to
// stop.
//
//	1  msgpack
//	2  time of the proposal (8 bytes, big endian, unix nanoseconds), msgpack
const commandVersion = 2

// Level is the feature level of this program: it can apply all commands of programs of
// this level and below. A cluster's level is the lowest of its servers.
const Level = LevelClusterID

// Level 2 added times, sessions, durable events and jobs; level 3 groups of commands;
// level 4 cluster ids.
const (
	levelSessions  = 2
	LevelGroups    = 3
	LevelClusterID = 4
)

// entryLevel is the lowest level that can read an entry of these commands.
func entryLevel(data []byte, commands []decoded) int {
	level := 1
	switch {
	case isGroup(data):
		level = LevelGroups
	case len(data) > 1 && data[1] >= 2:
		level = levelSessions
	}
	for _, c := range commands {
		level = max(level, c.cmd.level())
	}
	return level
}

// snapshotLevel is the lowest level that can read a snapshot of a version.
func snapshotLevel(version byte) int {
	switch version {
	case 1:
		return 1
	case 2:
		return levelSessions
	}
	return LevelClusterID
}

// msgpack is the encoding of commands and snapshots. Maps are in key order, so that
// equal values give equal bytes. An unknown field is an error, since its meaning would
// be lost. The handle is never changed.
var msgpack = newMsgpack()

func newMsgpack() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.Canonical = true
	h.ErrorIfNoField = true
	return h
}

// Encode makes the bytes of a log entry: type, version, time, msgpack. It refuses a
// command that a cluster of the given feature level cannot apply.
func Encode(cmd Command, now time.Time, level int) ([]byte, error) {
	if need := cmd.level(); need > level {
		return nil, fmt.Errorf("not possible yet: it needs every server at feature level %d, but one is at %d: upgrade all servers", need, level)
	}
	if err := validate(cmd); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	var body any = cmd
	if c, ok := cmd.(*KV); ok {
		body = &kvWire{c.Op, c.Entry.Key, c.Entry.Value, c.Entry.Flags, c.Entry.Session, c.Index, c.TTL, c.Fence}
	}
	head := []byte{cmd.kind(), 1}
	if level >= levelSessions {
		head = binary.BigEndian.AppendUint64([]byte{cmd.kind(), 2}, uint64(now.UnixNano()))
	}
	packed, err := pack(head, body)
	if err != nil {
		return nil, fmt.Errorf("encode command %T: %w", cmd, err)
	}
	return packed, nil
}

// ErrNewer is wrapped by the errors about data that a newer program has written.
var ErrNewer = errors.New("written by a newer version: upgrade this server")

// Unreadable says that a committed entry of the raft log cannot be decoded here. That
// depends on the program and not on the state: other replicas may have applied it, so
// this one must stop.
type Unreadable struct {
	Index uint64
	Err   error
}

// Error names the entry and the reason.
func (u *Unreadable) Error() string {
	if errors.Is(u.Err, ErrNewer) {
		return fmt.Sprintf("entry %d of the raft log cannot be applied: %v", u.Index, u.Err)
	}
	return fmt.Sprintf("entry %d of the raft log cannot be applied: %v: it was written by a newer version, or is damaged: upgrade this server", u.Index, u.Err)
}

func (u *Unreadable) Unwrap() error { return u.Err }

// decoded is a command of an entry with the time of its proposal.
type decoded struct {
	cmd Command
	now int64 // unix nanoseconds
}

// decodeEntry appends the commands of an entry, all or none.
func decodeEntry(to []decoded, data []byte) ([]decoded, error) {
	if !isGroup(data) {
		cmd, now, err := Decode(data)
		return append(to, decoded{cmd, now}), err
	}
	group, err := ungroup(data)
	if err != nil {
		return to, err
	}
	for _, one := range group {
		cmd, now, err := Decode(one)
		if err != nil {
			return to, fmt.Errorf("decode a group of commands: %w", err)
		}
		to = append(to, decoded{cmd, now})
	}
	return to, nil
}

// Decode is the reverse of Encode. now is the time of the proposal in unix nanoseconds,
// 0 in version 1. The error about an unknown type, version or field names it.
func Decode(data []byte) (cmd Command, now int64, err error) {
	if len(data) < 2 {
		return nil, 0, fmt.Errorf("decode command: %d bytes are too few", len(data))
	}
	kind, version, body := data[0], data[1], data[2:]
	if version == 0 || version > commandVersion {
		return nil, 0, fmt.Errorf("decode command of type %d: version %d is not known here (newest is %d): %w", kind, version, commandVersion, ErrNewer)
	}
	if version >= 2 {
		if len(body) < 8 {
			return nil, 0, fmt.Errorf("decode command of type %d: %d bytes are too few", kind, len(data))
		}
		now, body = int64(binary.BigEndian.Uint64(body)), body[8:]
	}
	cmd, err = decodeBody(kind, body)
	if err != nil {
		return nil, 0, fmt.Errorf("decode command of type %d: %w", kind, err)
	}
	return cmd, now, nil
}

func decodeBody(kind byte, body []byte) (cmd Command, err error) {
	if kind == typeKV {
		var w kvWire
		err = unpack(body, &w)
		cmd = &KV{
			Op:    w.Op,
			Entry: api.KVPair{Key: w.Key, Value: w.Value, Flags: w.Flags, Session: w.Session},
			Index: w.Index, TTL: w.TTL, Fence: w.Fence,
		}
	} else if cmd = newCommand(kind); cmd != nil {
		err = unpack(body, cmd)
	} else {
		return nil, fmt.Errorf("it is not known here: %w", ErrNewer)
	}
	if err == nil {
		if err = validate(cmd); err != nil {
			err = fmt.Errorf("%w: %w", err, ErrNewer)
		}
	}
	return cmd, err
}

// newCommand makes an empty command of a type other than KV; nil for an unknown type.
func newCommand(kind byte) Command {
	switch kind {
	case typeRegister:
		return new(Register)
	case typeDeregister:
		return new(Deregister)
	case typeTxn:
		return new(Txn)
	case typeSessionCreate:
		return new(SessionCreate)
	case typeSessionDestroy:
		return new(SessionDestroy)
	case typeReap:
		return new(Reap)
	case typeEventFire:
		return new(EventFire)
	case typeEventAck:
		return new(EventAck)
	case typeClusterID:
		return new(ClusterID)
	case typeJobCreate:
		return new(JobCreate)
	case typeJobClaim:
		return new(JobClaim)
	case typeJobReport:
		return new(JobReport)
	case typeJobStop:
		return new(JobStop)
	case typeJobReap:
		return new(JobReap)
	}
	return nil
}

// validate refuses a command that can be decoded but not understood. Its proposer
// has understood it, since it has checked the same.
func validate(cmd Command) error {
	switch c := cmd.(type) {
	case *KV:
		if !c.Op.valid() {
			return fmt.Errorf("unknown KV verb %q", string(c.Op))
		}
	case *JobCreate:
		if _, err := ReadOrder(c.Request.Order); err != nil {
			return err
		}
	}
	return nil
}

// pack appends the encoding of v to head.
func pack(head []byte, v any) ([]byte, error) {
	var body []byte
	if err := codec.NewEncoderBytes(&body, msgpack).Encode(v); err != nil {
		return nil, err
	}
	return append(head, body...), nil
}

func unpack(data []byte, v any) error {
	dec := codec.NewDecoderBytes(data, msgpack)
	if err := dec.Decode(v); err != nil {
		return err
	}
	if n := dec.NumBytesRead(); n != len(data) {
		return fmt.Errorf("%d bytes are left over", len(data)-n)
	}
	return nil
}
