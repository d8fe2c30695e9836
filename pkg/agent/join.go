package agent

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
)

// firstRetry is the pause after the first failed attempt; it doubles up to
// retry_interval, so that agents that are started together meet at once.
const firstRetry = 100 * time.Millisecond

// triedAfter attempts everybody counts as tried: one alone may fail on a machine that
// is busy starting.
const triedAfter = 3

// joiner finds the cluster: those of -retry-join, and those who were in it when
// this agent last ran.
type joiner struct {
	pool     pool
	addrs    []string // host or host:port
	self     map[string]bool
	port     int // where none is named
	interval time.Duration
	most     int    // attempts; 0 is no limit
	tried    func() // called once everybody was tried, whatever came of it
	log      *slog.Logger
}

type pool interface {
	JoinContext(ctx context.Context, addrs []string) (int, error)
	Rejoin(ctx context.Context) (int, error)
	Members() []api.Member
	AwaitUp(ctx context.Context) error
}

// run tries until another member is reached, or ctx ends.
func (j *joiner) run(ctx context.Context) error {
	defer j.tried()
	if err := j.pool.AwaitUp(ctx); err != nil {
		return nil // the pool says itself what is wrong
	}
	if n, err := j.pool.Rejoin(ctx); err != nil {
		j.log.Debug("members of the last run do not answer", "error", err)
	} else if n > 0 {
		j.log.Info("joined members of the last run", "members", n)
	}
	others := j.others()
	pause := min(firstRetry, j.interval)
	for attempt := 1; len(others) > 0 && !j.joined(); attempt++ {
		n, err := j.pool.JoinContext(ctx, others)
		if n > 0 {
			j.log.Info("joined the cluster", "contacted", n)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if attempt >= triedAfter {
			j.tried()
		}
		if j.most > 0 && attempt >= j.most {
			return fmt.Errorf("join %v: no member answers after %d attempts (retry_max): %w", others, attempt, err)
		}
		j.tell(ctx, attempt, others, pause, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, j.interval)
		}
	}
	return nil
}

// remindAfter is after how many failed attempts a join that has failed is told of
// again; after twice as many once more, and so on.
const remindAfter = 16

// tell says at once that nobody answers, since the address may be a wrong one, and
// then ever more rarely.
func (j *joiner) tell(ctx context.Context, attempt int, others []string, pause time.Duration, err error) {
	level := slog.LevelDebug
	if attempt == 1 || attempt >= remindAfter && attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	j.log.Log(ctx, level, "no member answers: trying again until one does", "addresses", others, "attempts", attempt, "next_in", pause, "error", err)
}

// others are the addresses to join but our own: joining oneself always works
// and says nothing.
func (j *joiner) others() []string {
	var out []string
	for _, addr := range j.addrs {
		full := withPort(addr, j.port)
		if !j.self[full] {
			out = append(out, full)
		}
	}
	return out
}

// joined says whether somebody else lives here already: they may have found us.
func (j *joiner) joined() bool {
	alive := 0
	for _, m := range j.pool.Members() {
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
