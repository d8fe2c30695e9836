package api

import "encoding/json"

// SubscribePath is muster's own: POST a Subscription, and read a stream of Frames,
// one JSON object a line, until one side closes it.
const SubscribePath = "/v1/subscribe"

// Limits of one subscription.
const (
	MaxSubscribedQueries = 16384
	MaxSubscriptionSize  = 8 << 20 // bytes of the body
)

// Subscription says what to follow, and which results the client has already.
type Subscription struct {
	// Index is the index of the last frame that the client got, on any stream. The
	// server applies at least that index before it sends the first frame.
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
// what the client has. The first frame is sent even if none differs; later frames
// without results are heartbeats. Indexes never fall on one stream, and may skip.
type Frame struct {
	Index   uint64             `json:",omitempty"`
	Results []SubscribedResult `json:",omitempty"`
	// Error ends the stream; the client subscribes again with what it has.
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
