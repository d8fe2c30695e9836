package execcmd

import (
	"fmt"
	"os"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/rexec"
)

// statusCommand tells what became of a job, or lists the jobs.
func (o *options) statusCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:     "status [flags] [ID]",
		Short:   "show a job of the last hour and its output until it is over, or list the jobs",
		Example: fmt.Sprintf("  %[1]s status\n  %[1]s status 5f3c1e0a-7f5e-4f0e-9a8e-0d2c4b6a8f10", name),
		Args:    cobra.MaximumNArgs(1),

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client()
			if err != nil {
				return err
			}
			defer c.CloseIdle()
			printer, err := o.show()
			if err != nil {
				return err
			}
			ctx, stop := cli.SignalContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if len(args) == 0 {
				jobs, _, err := c.ExecJobs(ctx, nil)
				if err != nil {
					return err
				}
				return o.listJobs(jobs)
			}
			job, _, err := c.ExecJob(ctx, args[0], nil)
			if err != nil {
				return err
			}
			if job == nil {
				return fmt.Errorf("there is no job %q: jobs are forgotten an hour after their end", args[0])
			}
			printer.Began(job.ID, nodes(job))
			result, err := rexec.Follow(ctx, c, job.ID, false, printer)
			printer.End(result, time.Since(job.Created))
			return outcome(result, err)
		},
	}
}

func nodes(job *api.ExecJob) []string {
	var out []string
	for _, t := range job.Targets {
		out = append(out, t.Node)
	}
	return out
}

func (o *options) listJobs(jobs []*api.ExecJob) error {
	w := tabwriter.NewWriter(o.stdout, 0, 0, 2, ' ', 0)
	if len(jobs) > 0 {
		_, _ = fmt.Fprintln(w, "ID\tCreated\tState\tBy\tCommand")
	}
	for _, j := range jobs {
		state, what := "running", j.Command
		if !j.Ended.IsZero() {
			state = "ended"
		}
		if j.Stopped != "" {
			state += ", " + j.Stopped
		}
		if j.Job != "" {
			what = "job " + j.Job + " " + what
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.60q\n", j.ID, j.Created.Local().Format(time.DateTime), state, j.By, what)
	}
	return w.Flush()
}

// stopCommand stops a job that somebody else began.
func (o *options) stopCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:     "stop [flags] ID",
		Short:   "stop a job on all nodes",
		Example: fmt.Sprintf("  %s stop 5f3c1e0a-7f5e-4f0e-9a8e-0d2c4b6a8f10", name),
		Args:    cobra.ExactArgs(1),

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client()
			if err != nil {
				return err
			}
			defer c.CloseIdle()
			err = c.ExecStop(cmd.Context(), args[0], nil)
			if client.IsStatus(err, 404) {
				return fmt.Errorf("stop job: %w", err)
			}
			return err
		},
	}
}
