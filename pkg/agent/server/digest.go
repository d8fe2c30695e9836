package server

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// digestPath gives a digest of the state, to compare replicas: two that have applied the
// same entries give the same digest.
const digestPath = "/v1/internal/state-digest"

type stateDigest struct {
	Cluster string // id
	Index   uint64 // of the last entry in the state
	SHA256  string // of the snapshot that holds the state
	Leads   bool
}

func (s *Server) digest(*http.Request) (any, error) {
	snap := s.views.Snapshot()
	sum := sha256.New()
	if err := snap.Write(sum); err != nil {
		return nil, err
	}
	return stateDigest{s.cfg.Identity.Cluster(), snap.Index(), hex.EncodeToString(sum.Sum(nil)), s.Leads()}, nil
}
