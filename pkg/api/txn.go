package api

// TxnOp is one operation of PUT /v1/txn: exactly one field is set.
type TxnOp struct {
	KV      *TxnKVOp      `json:",omitempty"`
	Node    *TxnNodeOp    `json:",omitempty"`
	Service *TxnServiceOp `json:",omitempty"`
	Check   *TxnCheckOp   `json:",omitempty"`
}

// TxnKVOp verbs: set, cas, lock, unlock, get, get-or-empty, get-tree,
// check-index, check-session, check-not-exists, delete, delete-cas, delete-tree.
type TxnKVOp struct {
	Verb    string
	Key     string
	Value   []byte
	Flags   uint64
	Index   uint64
	Session string
}

// TxnNodeOp verbs: get, set, cas, delete, delete-cas.
type TxnNodeOp struct {
	Verb string
	Node Node
}

// TxnServiceOp verbs: get, set, cas, delete, delete-cas.
type TxnServiceOp struct {
	Verb    string
	Node    string
	Service NodeService
}

// TxnCheckOp verbs: get, set, cas, delete, delete-cas.
type TxnCheckOp struct {
	Verb  string
	Check HealthCheck
}

// TxnResult is the result of one operation: exactly one field is set.
type TxnResult struct {
	KV      *KVPair      `json:",omitempty"`
	Node    *Node        `json:",omitempty"`
	Service *NodeService `json:",omitempty"`
	Check   *HealthCheck `json:",omitempty"`
}

// TxnError says why the operation at OpIndex failed.
type TxnError struct {
	OpIndex int
	What    string
}

// TxnResponse is the answer: Results on success, Errors (and status 409) when
// everything was rolled back.
type TxnResponse struct {
	Results []*TxnResult
	Errors  []*TxnError
}
