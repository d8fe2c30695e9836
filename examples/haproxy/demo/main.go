// Command demo shows muster's main job with real processes: three servers and
// two clients on 127.0.0.x, web backends with HTTP checks, tmpl, and a HAProxy
// that follows the catalog. It kills and adds processes, and prints after each step
// how long it took until HAProxy itself answered accordingly, and whether a
// request through HAProxy failed once it had.
//
// It ends with 0 only if every step held. Every process runs below a guard, so
// nothing of it is left behind, even if the demo itself is killed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/retry"
)

const (
	limit     = 90 * time.Second // for everything
	stepLimit = 20 * time.Second // for one change to arrive
	observe   = time.Second      // how long traffic is watched after each change
)

func main() {
	bin := flag.String("bin", "bin", "folder of the agent, tmpl and web binaries")
	dir := flag.String("dir", "examples/haproxy", "folder of haproxy.ctmpl and reload")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, *bin, *dir); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, dir string) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return fmt.Errorf("make working folder: %w", err)
	}
	h, err := newDeployment(bin, work)
	if err != nil {
		return errors.Join(err, os.Remove(work))
	}
	defer func() {
		if err != nil {
			h.printLogs(os.Stderr)
		}
		h.stop()
		_ = os.RemoveAll(work)
	}()
	if err := h.copyFiles(dir); err != nil {
		return err
	}
	d := &demo{deployment: h, line: newTimeline(os.Stdout)}
	return d.play(ctx)
}

// demo is the sequence of steps.
type demo struct {
	deployment *deployment
	line       *timeline
	proxy      proxy
	traffic    *traffic
}

func (d *demo) play(ctx context.Context) error {
	if err := d.setUp(ctx); err != nil {
		return err
	}
	if d.deployment.haproxy != "" {
		d.traffic = startTraffic(ctx, d.deployment.web)
		defer d.traffic.stop()
	}
	steps := []struct {
		text string
		do   func(context.Context) error
		want []string
	}{
		{"kill -9 of backend web-1", d.kill("web-1"), []string{"web-2", "web-3"}},
		{"kill -9 of client agent client-2 (its web-2 still runs)", d.kill("client-2"), []string{"web-3"}},
		{"a new backend, web-4, registers at client-1", d.add("web-4", 4), []string{"web-3", "web-4"}},
		{"kill -9 of the leader, then web-5 registers", d.killLeaderThenAdd, []string{"web-3", "web-4", "web-5"}},
	}
	held := true
	for _, s := range steps {
		ok, err := d.step(ctx, s.text, s.do, s.want)
		if err != nil {
			return err
		}
		held = held && ok
	}
	if !held {
		return errors.New("requests failed after HAProxy had the change")
	}
	d.line.say("every step held")
	return nil
}

func (d *demo) setUp(ctx context.Context) error {
	h := d.deployment
	d.line.say("three servers and two clients start, on 127.0.0.11-13 and 127.0.0.21-22")
	if err := h.startAgents(ctx); err != nil {
		return err
	}
	leader, err := h.leader(ctx)
	if err != nil {
		return err
	}
	d.line.say("%s leads, five nodes are alive", leader)
	for i, agent := range []string{"client-1", "client-2", "client-1"} {
		if err := h.startWeb(ctx, fmt.Sprintf("web-%d", i+1), agent, i+1); err != nil {
			return err
		}
	}
	d.line.say("web-1 and web-3 register at client-1, web-2 at client-2; each has an HTTP check every second")
	if err := h.startTmpl(ctx); err != nil {
		return err
	}
	if h.haproxy == "" {
		d.line.say("haproxy is missing ('apt-get install haproxy' as root): the rendered file is shown instead")
		d.proxy = rendered{filepath.Join(h.work, "haproxy.cfg")}
	} else {
		d.line.say("tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload")
		d.proxy = live{h.stats}
	}
	if err := d.await(ctx, []string{"web-1", "web-2", "web-3"}); err != nil {
		return err
	}
	d.line.say("%s web-1 web-2 web-3", d.proxy.verb())
	if h.haproxy == "" {
		return d.proxy.show(os.Stdout)
	}
	return nil
}

// step makes a change, waits until HAProxy shows it, and then watches the
// traffic for a while: from then on no request may fail.
func (d *demo) step(ctx context.Context, text string, do func(context.Context) error, want []string) (bool, error) {
	d.line.step(text)
	start := time.Now()
	if err := do(ctx); err != nil {
		return false, fmt.Errorf("%s: %w", text, err)
	}
	if err := d.await(ctx, want); err != nil {
		return false, fmt.Errorf("%s: %w", text, err)
	}
	shown := time.Now()
	d.line.result("%s %s after %.2f s", d.proxy.verb(), strings.Join(want, " "), shown.Sub(start).Seconds())
	if d.traffic == nil {
		return true, nil
	}
	if err := retry.Sleep(ctx, observe); err != nil {
		return false, err
	}
	meanwhile := d.traffic.between(start, shown)
	after := d.traffic.between(shown, time.Now())
	d.line.result("requests meanwhile: %s", meanwhile)
	d.line.result("requests since:     %s", after)
	return after.failed == 0 && after.sent > 0, nil
}

func (d *demo) await(ctx context.Context, want []string) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	var have []string
	err := until(ctx, func() (bool, error) {
		var err error
		have, err = d.proxy.servers(ctx)
		return err == nil && slices.Equal(have, want), err
	})
	if err != nil {
		return fmt.Errorf("wait until %s %v: it is %v: %w", d.proxy.verb(), want, have, err)
	}
	return nil
}

func (d *demo) kill(name string) func(context.Context) error {
	return func(context.Context) error { return d.deployment.kill(name) }
}

func (d *demo) add(name string, n int) func(context.Context) error {
	return func(ctx context.Context) error { return d.deployment.startWeb(ctx, name, "client-1", n) }
}

func (d *demo) killLeaderThenAdd(ctx context.Context) error {
	leader, err := d.deployment.leader(ctx)
	if err != nil {
		return err
	}
	if err := d.deployment.kill(leader); err != nil {
		return err
	}
	d.line.result("that was %s", leader)
	return d.add("web-5", 5)(ctx)
}
