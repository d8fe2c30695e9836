// Package retryjoin finds the cluster when an agent starts: the members of its last
// run, and the addresses of retry_join.
//
// What it promises: it tries until another member is reached, or as often as it is
// allowed to; an agent never counts as its own cluster; a join that fails is told
// of at once, then ever more rarely.
package retryjoin

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

// firstPause follows the first failed attempt; it doubles up to Config.Interval, so
// that agents that are started together find each other at once.
const firstPause = 100 * time.Millisecond

// triedAfter attempts everybody counts as tried: one alone may fail on a machine that
// is busy starting.
const triedAfter = 3

// remindAfter failed attempts a failed join is told of again; after twice as many
// once more, and so on.
const remindAfter = 16

// Pool is the gossip pool of the agent.
type Pool interface {
	JoinContext(ctx context.Context, addrs []string) (int, error)
	Rejoin(ctx context.Context) (int, error)
	Members() []api.Member
	AwaitUp(ctx context.Context) error
}

// Config of a Joiner.
type Config struct {
	Pool        Pool
	Addrs       []string        // host or host:port
	Self        map[string]bool // this agent's own addresses, with ports
	Port        int             // where none is named
	Interval    time.Duration   // longest pause between attempts (retry_interval)
	MaxAttempts int             // 0 is no limit (retry_max)
	Tried       func()          // called once everybody was tried, whatever came of it; and again at the end
	Logger      *slog.Logger
}

// Joiner joins the cluster.
type Joiner struct{ cfg Config }

// New makes a joiner.
func New(cfg Config) *Joiner { return &Joiner{cfg} }

// Run tries until another member is reached, or ctx ends. Its error says that
// MaxAttempts have failed.
func (j *Joiner) Run(ctx context.Context) error {
	defer j.cfg.Tried()
	if err := j.cfg.Pool.AwaitUp(ctx); err != nil {
		return nil // the pool says itself what is wrong
	}
	if n, err := j.cfg.Pool.Rejoin(ctx); err != nil {
		j.cfg.Logger.Debug("members of the last run do not answer", "error", err)
	} else if n > 0 {
		j.cfg.Logger.Info("joined members of the last run", "members", n)
	}
	others := j.others()
	backoff := retry.Backoff{First: min(firstPause, j.cfg.Interval), Max: j.cfg.Interval}
	for attempt := 1; len(others) > 0 && !j.joined(); attempt++ {
		n, err := j.cfg.Pool.JoinContext(ctx, others)
		if n > 0 {
			j.cfg.Logger.Info("joined the cluster", "contacted", n)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if attempt >= triedAfter {
			j.cfg.Tried()
		}
		if limit := j.cfg.MaxAttempts; limit > 0 && attempt >= limit {
			return fmt.Errorf("join %v: no member answers after %d attempts (retry_max): %w", others, attempt, err)
		}
		pause := backoff.Next()
		j.tell(ctx, attempt, others, pause, err)
		if retry.Sleep(ctx, pause) != nil {
			return nil
		}
	}
	return nil
}

// tell says at once that nobody answers, since the address may be a wrong one.
func (j *Joiner) tell(ctx context.Context, attempt int, others []string, pause time.Duration, err error) {
	level := slog.LevelDebug
	if attempt == 1 || attempt >= remindAfter && attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	j.cfg.Logger.Log(ctx, level, "no member answers: trying again until one does", "addresses", others, "attempts", attempt, "next_in", pause, "error", err)
}

// others are the addresses to join but our own: joining oneself always works
// and says nothing.
func (j *Joiner) others() []string {
	var out []string
	for _, addr := range j.cfg.Addrs {
		if full := withPort(addr, j.cfg.Port); !j.cfg.Self[full] {
			out = append(out, full)
		}
	}
	return out
}

// joined says whether another member is known already: it may have found us.
func (j *Joiner) joined() bool {
	alive := 0
	for _, m := range j.cfg.Pool.Members() {
		if m.Status == api.MemberAlive {
			alive++
		}
	}
	return alive > 1
}

func withPort(addr string, port int) string {
	host, given := gossip.SplitAddress(addr)
	return net.JoinHostPort(host, cmp.Or(given, strconv.Itoa(port)))
}
