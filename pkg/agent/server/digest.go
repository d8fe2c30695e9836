package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
)

type stateDigest struct {
	Cluster string // id
	Index   uint64 // of the last entry in the state
	SHA256  string // of the snapshot that holds the state
	Leads   bool
}

// Digest is of the state, to compare replicas: two that have applied the same entries
// give the same.
func (s *Server) Digest(context.Context, url.Values) (any, error) {
	snap := s.views.Snapshot()
	sum := sha256.New()
	if err := snap.Write(sum); err != nil {
		return nil, err
	}
	return stateDigest{s.cfg.Identity.Cluster(), snap.Index(), hex.EncodeToString(sum.Sum(nil)), s.Leads()}, nil
}
