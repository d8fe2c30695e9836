// Command bench measures muster, and what it is held against, from the outside:
// it starts agents and tools as their users do, loads them over HTTP and DNS, and
// reads from /proc what that costs them. It is a module of its own and knows
// nothing of muster's code, so it measures an older commit as well as this one.
// "make bench" runs it; docs/benchmarks.md says how, and what the figures are.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sets are what there is to measure; each takes several measurements, with agents
// of its own.
var sets = []struct {
	name string
	take func(*run)
}{
	{"fsync", fsync}, {"start", start}, {"kv", kvPut}, {"get", kvGet}, {"health", health}, {"dns", dns}, {"wake", wake}, {"quiet", quiet},
	{"subscribe", subscribe}, {"cluster", threeServers}, {"failover", failover}, {"tmpl", tmpl}, {"envexec", envexec}, {"lock", lock},
	{"exec", remoteExec}, {"event", event},
}

// options are what the flags say.
type options struct {
	d       time.Duration // of a load; what is repeated begins no more after 8 times that
	rounds  int
	most    int // watchers, instances, services, clients
	sets    string
	columns []*column
	raw     io.Writer // for each result as a line of JSON; may be nil
}

// figures are what one measurement yields, by name.
type figures map[string]float64

// A result is one measurement of one column.
type result struct {
	Label   string  `json:"label"`
	Round   int     `json:"round"`
	Bench   string  `json:"bench"`
	Params  string  `json:"params,omitempty"`
	Figures figures `json:"figures"`
}

func main() {
	if child(os.Args[1:]) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// child is what this program does where it is a part of a measurement itself.
func child(args []string) bool {
	roles := map[string]func([]string) error{"null": null, "stamp": stamp}
	if len(args) == 0 || roles[args[0]] == nil {
		return false
	}
	if err := roles[args[0]](args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", args[0], err)
		os.Exit(1)
	}
	return true
}

func command(ctx context.Context, args []string) error {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	bin := f.String("bin", "bin", "folder of the built programs")
	base := f.String("base", "", "commits to measure beside them, each built in a worktree that is removed again")
	consul := f.String("consul", "", "consul's program, to measure it beside them; consul-template and envconsul are looked for in PATH")
	etcd := f.String("etcd", "", "etcd's program, likewise")
	raw := f.String("out", "", "file to which each measurement is appended as a line of JSON")
	f.StringVar(&o.sets, "sets", setNames(), "what to measure")
	f.IntVar(&o.rounds, "rounds", 1, "rounds, in each of which all take turns")
	f.IntVar(&o.most, "most", 10000, "the most watchers, instances, services or clients")
	f.DurationVar(&o.d, "d", 2*time.Second, "time of each load")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := resolve(bin, consul, etcd); err != nil {
		return err
	}
	for _, name := range strings.Fields(o.sets) {
		if !slices.Contains(strings.Fields(setNames()), name) {
			return fmt.Errorf("no set is called %q; there are: %s", name, setNames())
		}
	}
	if *raw != "" {
		file, err := os.OpenFile(*raw, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		o.raw = file
	}
	for _, commit := range strings.Fields(*base) {
		bin, remove, err := buildCommit(ctx, ".", commit)
		if err != nil {
			return err
		}
		defer remove()
		o.columns = append(o.columns, musterColumn(commit, bin))
	}
	if *consul != "" {
		o.columns = append(o.columns, consulColumn(*consul))
	}
	o.columns = append(o.columns, musterColumn("muster", *bin))
	if *etcd != "" {
		o.columns = append(o.columns, etcdColumn(*etcd))
	}
	o.columns = append(o.columns, limitColumn())
	results, err := measure(ctx, o)
	if len(results) > 0 {
		fmt.Printf("%s; loads of %v\nmedian of %d (spread) x ratio to %s\n\n", machine(), o.d, o.rounds, o.columns[0].name)
		err = errors.Join(err, table(os.Stdout, o.columns, results))
	}
	return err
}

// resolve makes paths absolute, since programs are run in folders of their own.
func resolve(bin *string, programs ...*string) (err error) {
	if *bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	for _, p := range programs {
		if *p == "" {
			continue
		}
		if *p, err = exec.LookPath(*p); err != nil {
			return err
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

func setNames() string {
	var names []string
	for _, s := range sets {
		names = append(names, s.name)
	}
	return strings.Join(names, " ")
}

// measure takes every set of every column in turn, round after round. What fails
// is said at once and counted; the rest is measured all the same.
func measure(ctx context.Context, o *options) (results []result, err error) {
	net, err := claimNet()
	if err != nil {
		return nil, err
	}
	defer net.Close()
	if err := allowFiles(); err != nil {
		return nil, err
	}
	var failed []string
	for round := 1; round <= o.rounds; round++ {
		for _, s := range sets {
			for _, col := range o.columns {
				if !slices.Contains(strings.Fields(o.sets), s.name) || !col.takes(s.name) {
					continue
				}
				err := take(ctx, o, col, net, s.take, func(bench, params string, f figures) error {
					results = append(results, result{col.name, round, bench, params, f.rounded()})
					return o.show(results[len(results)-1])
				})
				if ctx.Err() != nil {
					return results, errors.New("stopped by a signal")
				}
				if err != nil && !errors.Is(err, errors.ErrUnsupported) {
					fmt.Fprintf(os.Stderr, "FAILED: %s of %s: %v\n", s.name, col.name, err)
					failed = append(failed, s.name+" of "+col.name)
				}
			}
		}
	}
	if failed != nil {
		err = fmt.Errorf("failed: %s; why is said above", strings.Join(failed, ", "))
	}
	return results, err
}

// show says a result to who waits, and keeps it.
func (o *options) show(r result) error {
	fmt.Fprintln(os.Stderr, r)
	if o.raw == nil {
		return nil
	}
	return json.NewEncoder(o.raw).Encode(r)
}
