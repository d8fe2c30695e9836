package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// readTxnResponse is the answer of a transaction that only reads: it has the
// meta data of a query in its body, too.
type readTxnResponse struct {
	*api.TxnResponse
	Index                 uint64
	LastContact           int64
	KnownLeader           bool
	ConsistencyLevel      string
	NotModified           bool
	Backend               int
	ResultsFilteredByACLs bool
}

func (a *API) txn(rq *request) (any, error) {
	ops, err := a.decodeTxn(rq.body)
	if err != nil {
		return nil, err
	}
	if state.TxnReadOnly(ops) {
		return a.readTxn(rq, ops)
	}
	v, err := a.propose(rq, &state.Txn{Ops: ops}, "")
	if err != nil {
		return nil, err
	}
	resp := v.(*api.TxnResponse)
	return reply{txnStatus(resp), typeJSON, txnShape(resp)}, nil
}

func (a *API) readTxn(rq *request, ops []*api.TxnOp) (any, error) {
	resp := a.cfg.Cluster.Views().Snapshot().ReadTxn(ops)
	rq.setContact()
	meta := readTxnResponse{TxnResponse: txnShape(resp), Index: 1, KnownLeader: true}
	if rq.mode == stale {
		meta.KnownLeader = a.cfg.Cluster.KnownLeader()
		meta.LastContact = int64(a.cfg.Cluster.LastContact())
	}
	return reply{txnStatus(resp), typeJSON, meta}, nil
}

func txnStatus(resp *api.TxnResponse) int {
	if len(resp.Errors) > 0 {
		return http.StatusConflict
	}
	return http.StatusOK
}

// txnShape makes the list that is not the answer null, and the other one not.
func txnShape(resp *api.TxnResponse) *api.TxnResponse {
	if len(resp.Errors) > 0 {
		return &api.TxnResponse{Errors: resp.Errors}
	}
	return &api.TxnResponse{Results: list(resp.Results)}
}

// decodeTxn reads the operations; entries that name none are skipped.
func (a *API) decodeTxn(body []byte) ([]*api.TxnOp, error) {
	var all []*api.TxnOp
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&all); err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "Failed to parse body: %v", err)
	}
	if len(all) > api.MaxTxnOps {
		return nil, api.Errorf(http.StatusRequestEntityTooLarge,
			"Transaction contains too many operations (%d > %d)", len(all), api.MaxTxnOps)
	}
	ops := all[:0]
	for _, op := range all {
		if op == nil || op.KV == nil && op.Node == nil && op.Service == nil && op.Check == nil {
			continue
		}
		if op.KV != nil && int64(len(op.KV.Value)) > a.cfg.MaxKVValueSize {
			return nil, api.Errorf(http.StatusRequestEntityTooLarge, "Value for key %q is too large (%d > %d bytes)",
				op.KV.Key, len(op.KV.Value), a.cfg.MaxKVValueSize)
		}
		if op.Node != nil {
			if err := a.checkDatacenter(op.Node.Node.Datacenter); err != nil {
				return nil, err
			}
			op.Node.Node.Datacenter = a.cfg.Datacenter // as in the nodes that catalog/register writes
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// onlyGets tells transactions that a follower can answer.
func onlyGets(rq *request) bool {
	ops, err := rq.api.decodeTxn(rq.body)
	return err == nil && state.TxnReadOnly(ops)
}

func txnLimit(c *Config) (int64, string) {
	return max(c.MaxTxnBodySize, c.MaxKVValueSize), configPage + "txn_max_req_len."
}
