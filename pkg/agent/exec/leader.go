package exec

import (
	"context"
	"net/url"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Paths of the routes between nodes and the leader, on the server port only.
const (
	CallsPath  = "/v1/internal/exec/calls/"
	ClaimPath  = "/v1/internal/exec/claim/"
	ReportPath = "/v1/internal/exec/report"
	OutputPath = "/v1/internal/exec/output/"
	WantedPath = "/v1/internal/exec/wanted/"
)

// Pushed is the body of a PUT to OutputPath, and Wanted of one to WantedPath.
type (
	Pushed struct{ Chunks []api.ExecChunk }
	Wanted struct{ Jobs []string }
	// Next is the answer to Pushed: the number of the chunk that is wanted next.
	Next struct{ Next uint64 }
)

// leader calls these routes.
type leader struct{ c *client.Client }

func (l leader) calls(ctx context.Context, node string, index uint64) ([]api.ExecCall, uint64, error) {
	var out []api.ExecCall
	meta, err := l.c.Get(ctx, CallsPath+url.PathEscape(node), &client.Options{Index: index}, &out)
	return out, meta.Index, err
}

func (l leader) claim(ctx context.Context, job, node, claim string) (ok bool, err error) {
	o := &client.Options{Params: url.Values{"job": {job}, "claim": {claim}}}
	_, err = l.c.Put(ctx, ClaimPath+url.PathEscape(node), o, nil, &ok)
	return ok, err
}

func (l leader) report(ctx context.Context, results ...api.ExecResult) error {
	_, err := l.c.Put(ctx, ReportPath, nil, results, nil)
	return err
}

func (l leader) push(ctx context.Context, job, node string, seq uint64, chunks []api.ExecChunk) (uint64, error) {
	o := &client.Options{Params: url.Values{"job": {job}, "seq": {strconv.FormatUint(seq, 10)}}}
	var out Next
	_, err := l.c.Put(ctx, OutputPath+url.PathEscape(node), o, Pushed{chunks}, &out)
	return out.Next, err
}

func (l leader) wanted(ctx context.Context, node string, jobs []string) ([]string, error) {
	var out Wanted
	_, err := l.c.Put(ctx, WantedPath+url.PathEscape(node), nil, Wanted{jobs}, &out)
	return out.Jobs, err
}
