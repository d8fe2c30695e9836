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
	var out []api.ExecCandidate
	_, err := c.Get(ctx, "/v1/exec/targets", o, &out)
	return out, err
}

// ExecStart begins a job. One that is known already, with the same order, is no
// error.
func (c *Client) ExecStart(ctx context.Context, r api.ExecRequest, o *Options) error {
	_, err := c.Put(ctx, "/v1/exec/job", o, r, nil)
	return err
}

// ExecStop stops a job: what runs is killed, what waits does not begin.
func (c *Client) ExecStop(ctx context.Context, id string, o *Options) error {
	_, err := c.Put(ctx, "/v1/exec/stop/"+id, o, nil, nil)
	return err
}

// ExecJob reads a job; nil when there is none.
func (c *Client) ExecJob(ctx context.Context, id string, o *Options) (*api.ExecJob, Meta, error) {
	var out api.ExecJob
	meta, err := c.Get(ctx, "/v1/exec/job/"+id, o, &out)
	if IsStatus(err, http.StatusNotFound) {
		return nil, meta, nil
	}
	if err != nil {
		return nil, meta, err
	}
	return &out, meta, nil
}

// ExecJobs lists the jobs that are remembered, the newest first, without their
// targets.
func (c *Client) ExecJobs(ctx context.Context, o *Options) ([]*api.ExecJob, Meta, error) {
	var out []*api.ExecJob
	meta, err := c.Get(ctx, "/v1/exec/jobs", o, &out)
	return out, meta, err
}

// ExecOutput hands the output of a job to take, as it arrives, until ctx ends, take
// says no or the stream ends, which it does when the leader is another.
func (c *Client) ExecOutput(ctx context.Context, id string, have map[string]uint64, o *Options, take func(api.ExecOutput) bool) error {
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
		if out.Node != "" && !take(out) {
			return nil
		}
	}
}
