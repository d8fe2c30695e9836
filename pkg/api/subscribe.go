package api

import "encoding/json"

// SubscribePath is muster's own: POST a Subscription, read a stream of Frames,
// one JSON object a line, until one side hangs up.
const SubscribePath = "/v1/subscribe"

// Limits of one subscription.
const (
	MaxSubscribedQueries = 16384
	MaxSubscriptionSize  = 8 << 20 // bytes of the body
)

// Subscription says what to follow, and what the client has of it already.
type Subscription struct {
	// Index is that of the last frame the client got, on this or another stream.
	// The server applies at least that much before its first frame.
	Index   uint64 `json:",omitempty"`
	Queries []SubscribedQuery
}

// SubscribedQuery is one read of the HTTP API: a path with its parameters, such
// as "/v1/health/service/web?passing".
type SubscribedQuery struct {
	ID   string // the client's name for it, unique in the subscription
	Path string
	Hash string `json:",omitempty"` // of the result that the client has
}

// Frame is the state at one raft index: every followed result that differs from
// what the client has. The first frame is sent even when none does; one without
// results says now and then that the stream lives. Indexes never fall on one
// stream, and may be skipped.
type Frame struct {
	Index   uint64             `json:",omitempty"`
	Results []SubscribedResult `json:",omitempty"`
	// Error ends the stream; subscribe again, with what you have.
	Error string `json:",omitempty"`
}

// SubscribedResult is what the path would have answered to a GET.
type SubscribedResult struct {
	ID     string
	Index  uint64 // X-Consul-Index of this result
	Status int
	Hash   string
	Body   json.RawMessage `json:",omitempty"` // of a 200
	Error  string          `json:",omitempty"` // text of any other status
}
