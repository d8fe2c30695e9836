package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

const (
	// rejoinTarget members tell us all the others; see Rejoin.
	rejoinTarget = 3
	// rejoinParallel are asked at the same time, since one that is gone may cost
	// seconds.
	rejoinParallel = 4

	joinTimeout = 30 * time.Second
)

// Join asks the agents at addrs ("ip", "host", "ip:port") to take us in. It
// returns how many did, and an error only if none did.
func (p *Pool) Join(addrs []string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	return p.JoinContext(ctx, addrs)
}

// JoinContext is Join, and returns when ctx ends. An attempt under way then goes
// on for a few seconds, at the longest until the end of Run.
func (p *Pool) JoinContext(ctx context.Context, addrs []string) (int, error) {
	select {
	case p.lifecycle <- struct{}{}: // not while Run is ending
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	s, err := p.running()
	if err != nil {
		<-p.lifecycle
		return 0, err
	}
	type outcome struct {
		n   int
		err error
	}
	result := make(chan outcome, 1)
	p.background.Go(func() {
		n, err := p.join(ctx, s, addrs)
		result <- outcome{n, err}
	})
	<-p.lifecycle
	select {
	case got := <-result:
		return got.n, got.err
	case <-ctx.Done():
		return 0, fmt.Errorf("gossip: join %v: %w", addrs, context.Cause(ctx))
	}
}

func (p *Pool) join(ctx context.Context, s *serf.Serf, addrs []string) (int, error) {
	found, failed := p.resolve(ctx, addrs)
	if len(found) == 0 {
		return 0, fmt.Errorf("gossip: join: %w", failed)
	}
	n, err := s.Join(found, true) // true: events from before we came are not for us
	if n > 0 {
		p.cutoff.end(s)
	}
	p.refresh()
	if err != nil {
		return n, fmt.Errorf("gossip: join: %w", errors.Join(err, failed))
	}
	return n, nil
}

// resolve looks names up here, where it ends with the context.
func (p *Pool) resolve(ctx context.Context, addrs []string) (found []string, failed error) {
	for _, addr := range addrs {
		host, port := SplitAddress(addr)
		if net.ParseIP(host) != nil {
			if port != "" {
				host = net.JoinHostPort(host, port)
			}
			found = append(found, host)
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		failed = errors.Join(failed, err)
		for _, ip := range ips {
			if port != "" {
				ip = net.JoinHostPort(ip, port)
			}
			found = append(found, ip)
		}
	}
	return found, failed
}

// SplitAddress splits what people write: a host or an IP address, with a port or
// without, an IPv6 address in brackets or not. Without a port that is "".
func SplitAddress(addr string) (host, port string) {
	if host, port, err := net.SplitHostPort(addr); err == nil {
		return host, port
	}
	if inner, ok := strings.CutPrefix(addr, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]"), ""
	}
	return addr, ""
}

// Rejoin joins the members that an earlier run of this agent knew, a few at a
// time until enough took us in, and returns how many did. Nothing known is no
// error.
func (p *Pool) Rejoin(ctx context.Context) (int, error) {
	addrs, err := p.peers.read(p.cfg.RejoinAfterLeave)
	if err != nil {
		return 0, err
	}
	joined := 0
	var failed error
	for len(addrs) > 0 && joined < rejoinTarget && ctx.Err() == nil {
		some := addrs[:min(len(addrs), rejoinParallel)]
		addrs = addrs[len(some):]
		results := make(chan error, len(some))
		for _, addr := range some {
			go func() {
				_, err := p.JoinContext(ctx, []string{addr})
				results <- err
			}()
		}
		for range some {
			if err := <-results; err != nil {
				failed = errors.Join(failed, err)
			} else {
				joined++
			}
		}
	}
	if joined > 0 {
		return joined, nil
	}
	return 0, failed
}
