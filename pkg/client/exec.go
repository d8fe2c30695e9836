package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/muster-dev/muster/pkg/api"
)

// ExecTargets lists the nodes that filters (regular expressions, "" for none)
// select. A Consul answers 404.
func (c *Client) ExecTargets(ctx context.Context, node, service, tag string, o *Options) ([]api.ExecCandidate, error) {
	for name, value := range map[string]string{"node": node, "service": service, "tag": tag} {
		if value != "" {
			o = o.with(name, value)
		}
	}
	out, _, err := get[[]api.ExecCandidate](ctx, c, "/v1/exec/targets", o)
	return out, err
}

// ExecStart begins a job. Sending the same order again is no error.
func (c *Client) ExecStart(ctx context.Context, r api.ExecRequest, o *Options) error {
	_, err := c.Put(ctx, "/v1/exec/job", o, r, nil)
	return err
}

// ExecStop stops a job: the runs are killed, and the targets that wait do not begin.
func (c *Client) ExecStop(ctx context.Context, id string, o *Options) error {
	_, err := c.Put(ctx, "/v1/exec/stop/"+id, o, nil, nil)
	return err
}

// ExecJob reads a job; nil when there is none.
func (c *Client) ExecJob(ctx context.Context, id string, o *Options) (*api.ExecJob, Meta, error) {
	return orNil(get[*api.ExecJob](ctx, c, "/v1/exec/job/"+id, o))
}

// ExecJobs lists the jobs, the newest first, without their targets.
func (c *Client) ExecJobs(ctx context.Context, o *Options) ([]*api.ExecJob, Meta, error) {
	return get[[]*api.ExecJob](ctx, c, "/v1/exec/jobs", o)
}

// ExecOutput calls handle with the output of a job, as it arrives, until ctx ends,
// handle returns false or the stream ends, which it does when the leader changes.
// have says how many chunks of each node the caller has already.
func (c *Client) ExecOutput(ctx context.Context, id string, have map[string]uint64, o *Options, handle func(api.ExecOutput) bool) error {
	resp, err := c.Stream(ctx, http.MethodPost, "/v1/exec/output/"+id, o, api.ExecFollow{Have: have})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	lines := json.NewDecoder(resp.Body)
	for {
		var out api.ExecOutput
		if err := lines.Decode(&out); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return fmt.Errorf("read output of job %s: %w", id, err)
		}
		if out.Error != "" {
			return errors.New(out.Error)
		}
		if out.Node != "" && !handle(out) {
			return nil
		}
	}
}
