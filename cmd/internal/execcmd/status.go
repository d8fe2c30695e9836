package execcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/rexec"
)

// jobCommand makes a subcommand about jobs.
func (o *options) jobCommand(use, short, example string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	return command.FlagsAnywhere(&cobra.Command{
		Use: use, Short: short, Example: example, Args: args,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.load(); err != nil {
				return err
			}
			defer o.cfg.Client.CloseIdle()
			ctx, stop := cli.SignalContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.explainConsul(ctx, run(ctx, args))
		},
	})
}

// errNoJob says that there is no such job.
var errNoJob = errors.New("jobs are forgotten an hour after their end")

// explainConsul replaces "not found" if the agent is a Consul, which keeps no jobs.
func (o *options) explainConsul(ctx context.Context, err error) error {
	if !client.IsStatus(err, http.StatusNotFound) && !errors.Is(err, errNoJob) {
		return err
	}
	if _, _, jobs := o.cfg.Client.ExecJobs(ctx, nil); !client.IsStatus(jobs, http.StatusNotFound) {
		return err
	}
	return cli.Hint(cli.ExitError, errors.New("this agent keeps no jobs: it is a Consul, and can neither show nor stop one"),
		"ask a muster agent (-http-addr); what runs by a Consul is told by the exec that began it, and by nobody else")
}

// statusCommand shows a job, or lists the jobs.
func (o *options) statusCommand(name string) *cobra.Command {
	return o.jobCommand("status [flags] [ID]", "show a job of the last hour and its output until it is over, or list the jobs",
		fmt.Sprintf("  %[1]s status\n  %[1]s status 5f3c1e0a-7f5e-4f0e-9a8e-0d2c4b6a8f10", name), cobra.MaximumNArgs(1),
		func(ctx context.Context, args []string) error {
			printer, err := o.show()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				jobs, _, err := o.cfg.Client.ExecJobs(ctx, nil)
				if err != nil {
					return err
				}
				return o.listJobs(jobs)
			}
			job, _, err := o.cfg.Client.ExecJob(ctx, args[0], nil)
			if err != nil {
				return err
			}
			if job == nil {
				return fmt.Errorf("there is no job %q: %w", args[0], errNoJob)
			}
			printer.Began(job.ID, nodes(job))
			result, err := rexec.Follow(ctx, o.cfg.Client, job.ID, false, printer)
			printer.End(result, time.Since(job.Created))
			return outcome(result, err)
		})
}

// summary is a job in the list, without its targets.
func summary(j *api.ExecJob) any {
	return struct {
		ID      string
		Job     string `json:",omitempty"`
		Command string
		By      string
		Created time.Time
		Ended   time.Time `json:",omitzero"`
		Stopped string    `json:",omitempty"`
	}{j.ID, j.Job, j.Command, j.By, j.Created, j.Ended, j.Stopped}
}

// jsonl writes n values, a line each.
func (o *options) jsonl(n int, value func(i int) any) error {
	enc := json.NewEncoder(o.stdout)
	for i := range n {
		if err := enc.Encode(value(i)); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
	return nil
}

func nodes(job *api.ExecJob) []string {
	var out []string
	for _, t := range job.Targets {
		out = append(out, t.Node)
	}
	return out
}

func (o *options) listJobs(jobs []*api.ExecJob) error {
	if o.output == "jsonl" {
		return o.jsonl(len(jobs), func(i int) any { return summary(jobs[i]) })
	}
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
			what = strings.TrimSpace("job " + j.Job + " " + what)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.60q\n", j.ID, j.Created.Local().Format(time.DateTime), state, j.By, what)
	}
	return w.Flush()
}

// stopCommand stops a job.
func (o *options) stopCommand(name string) *cobra.Command {
	return o.jobCommand("stop [flags] ID", "stop a job on all nodes",
		fmt.Sprintf("  %s stop 5f3c1e0a-7f5e-4f0e-9a8e-0d2c4b6a8f10", name), cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			if err := o.cfg.Client.ExecStop(ctx, args[0], nil); err != nil {
				return fmt.Errorf("stop job: %w", err)
			}
			return nil
		})
}
