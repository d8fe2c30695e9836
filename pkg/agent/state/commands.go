package state

import (
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/api"
)

// A Command is one change of the state, as a pointer to one of the structs of
// this file. It is complete: nothing but the state and the raft index is looked
// at when it is applied.
type Command interface{ command() }

// Register adds or changes a node, one of its services and any of its checks.
// Its result is nil or an error.
type Register struct {
	Node           *api.Node
	SkipNodeUpdate bool // leave an existing node record alone
	Service        *api.NodeService
	Checks         []*api.HealthCheck
}

// Deregister removes the service, else the check, else the whole node. Removing
// what is not there is no error. Its result is nil.
type Deregister struct {
	Node      string
	ServiceID string
	CheckID   string
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

// KV changes one key, or a tree of keys. Of Entry, Key, Value, Flags and Session
// count. Its result is a bool (false: the condition did not hold) or an error.
type KV struct {
	Op    KVOp
	Entry api.KVPair
	Index uint64
}

// Txn runs operations in order, all or none. Its result is a *api.TxnResponse;
// with Errors in it, nothing was changed.
type Txn struct{ Ops []*api.TxnOp }

func (*Register) command()   {}
func (*Deregister) command() {}
func (*KV) command()         {}
func (*Txn) command()        {}

// The first byte of an encoded command. The numbers are for ever.
const (
	typeRegister   = 1
	typeDeregister = 2
	typeKV         = 3
	typeTxn        = 4
)

// commandVersion is the second byte: the newest encoding this program knows. A
// command whose meaning or fields change gets the next one, and the one before
// stays readable.
const commandVersion = 1

// kvWire is KV as it is encoded: the most frequent command has short names.
type kvWire struct {
	Op      KVOp   `codec:"o"`
	Key     string `codec:"k"`
	Value   []byte `codec:"v,omitempty"`
	Flags   uint64 `codec:"f,omitempty"`
	Session string `codec:"s,omitempty"`
	Index   uint64 `codec:"i,omitempty"`
}

// msgpack is how everything is encoded: maps in key order, so that equal values
// give equal bytes. It is never changed.
var msgpack = newMsgpack()

func newMsgpack() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.Canonical = true
	return h
}

// Encode makes the bytes of a log entry: type, version, msgpack.
func Encode(cmd Command) ([]byte, error) {
	var kind byte
	var body any = cmd
	switch c := cmd.(type) {
	case *Register:
		kind = typeRegister
	case *Deregister:
		kind = typeDeregister
	case *KV:
		kind = typeKV
		body = &kvWire{c.Op, c.Entry.Key, c.Entry.Value, c.Entry.Flags, c.Entry.Session, c.Index}
	case *Txn:
		kind = typeTxn
	default:
		return nil, fmt.Errorf("encode command: %T is no command", cmd)
	}
	packed, err := pack([]byte{kind, commandVersion}, body)
	if err != nil {
		return nil, fmt.Errorf("encode command %T: %w", cmd, err)
	}
	return packed, nil
}

// Decode reads what Encode made. It refuses what it does not know by name.
func Decode(data []byte) (Command, error) {
	if len(data) < 2 {
		return nil, fmt.Errorf("decode command: %d bytes are too few", len(data))
	}
	kind, version, body := data[0], data[1], data[2:]
	if version == 0 || version > commandVersion {
		return nil, fmt.Errorf("decode command of type %d: version %d is not known here (newest is %d): upgrade this server", kind, version, commandVersion)
	}
	var cmd Command
	var err error
	switch kind {
	case typeRegister:
		c := new(Register)
		cmd, err = c, unpack(body, c)
	case typeDeregister:
		c := new(Deregister)
		cmd, err = c, unpack(body, c)
	case typeKV:
		var w kvWire
		err = unpack(body, &w)
		cmd = &KV{
			Op:    w.Op,
			Entry: api.KVPair{Key: w.Key, Value: w.Value, Flags: w.Flags, Session: w.Session},
			Index: w.Index,
		}
	case typeTxn:
		c := new(Txn)
		cmd, err = c, unpack(body, c)
	default:
		return nil, fmt.Errorf("decode command: type %d is not known here: upgrade this server", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("decode command of type %d: %w", kind, err)
	}
	return cmd, nil
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
