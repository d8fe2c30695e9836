package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// WhyNoLeader describes, from what the gossip pool knows, why no server leads: which
// servers are missing, and how many are needed. It is what one agent knows: a server
// that failed for it may only be unreachable for it.
func WhyNoLeader(members []*Member) string {
	var alive, failed []string
	expect := 0
	for _, m := range members {
		if m.Tags["role"] != "consul" {
			continue
		}
		switch m.Status {
		case MemberAlive:
			alive = append(alive, m.Name)
			n, _ := strconv.Atoi(m.Tags["expect"])
			expect = max(expect, n)
		case MemberFailed:
			failed = append(failed, m.Name)
		}
	}
	slices.Sort(alive)
	slices.Sort(failed)
	all := len(alive) + len(failed)
	need := all/2 + 1
	switch {
	case all == 0:
		return "no server is known: join one (agent join ADDRESS, or retry_join)"
	case len(alive) < need:
		return fmt.Sprintf("%d of %d servers %s failed (%s): %d are needed; `agent members` lists them",
			len(failed), all, verb(len(failed)), strings.Join(failed, ", "), need)
	case len(failed) == 0 && expect > all:
		return fmt.Sprintf("%d of %d servers that found a cluster (bootstrap_expect) %s there (%s); `agent members` lists them",
			all, expect, verb(all), strings.Join(alive, ", "))
	}
	return fmt.Sprintf("%d of %d servers are alive (%s): they are electing a leader, or do not reach each other's server ports",
		len(alive), all, strings.Join(alive, ", "))
}

func verb(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
