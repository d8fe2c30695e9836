package operator

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
)

// allSegments asks for the members of every network segment.
const allSegments = "_all"

// exitNoMembers is the exit code when no member matches.
const exitNoMembers = 2

// MembersQuery says which members `members` lists, and how.
type MembersQuery struct {
	Detailed bool
	WAN      bool
	Status   string // regular expression
	Filter   string
	Segment  string
}

// Members lists the members of the agent's pool, servers first. When there is
// none to list it prints nothing and the exit code is 2.
func Members(ctx context.Context, c *client.Client, out io.Writer, q MembersQuery) error {
	status, err := regexp.Compile(q.Status)
	if err != nil {
		return failed(err, "Failed to compile status regexp")
	}
	params := url.Values{}
	switch {
	case q.WAN:
		params.Set("wan", "1") // the WAN pool has no segments
		if q.Segment != "" && q.Segment != allSegments {
			params.Set("segment", q.Segment)
		}
	default:
		params.Set("segment", cmp.Or(q.Segment, allSegments))
	}
	members, err := c.AgentMembers(ctx, &client.Options{Filter: q.Filter, Params: params})
	if err != nil {
		return failed(err, "Error retrieving members")
	}
	members = slices.DeleteFunc(members, func(m *api.Member) bool { return !status.MatchString(memberStatus(m.Status)) })
	if len(members) == 0 {
		return cli.Exit(exitNoMembers, nil)
	}
	slices.SortFunc(members, func(a, b *api.Member) int {
		if x, y := memberType(a) == "server", memberType(b) == "server"; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"}}
	if q.Detailed {
		rows[0] = []string{"Node", "Address", "Status", "Tags"}
	}
	for _, m := range members {
		rows = append(rows, memberRow(m, q.Detailed))
	}
	table(out, rows)
	return nil
}

func memberRow(m *api.Member, detailed bool) []string {
	row := []string{m.Name, net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port))), memberStatus(m.Status)}
	partition := cmp.Or(m.Tags["ap"], "default")
	if detailed {
		tags := maps.Clone(m.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		tags["ap"] = partition
		return append(row, pairs(tags, ","))
	}
	build, _, _ := strings.Cut(m.Tags["build"], ":")
	segment := cmp.Or(m.Tags["segment"], "<default>")
	if memberType(m) == "server" {
		segment = "<all>"
	}
	return append(row, memberType(m), build, m.Tags["vsn"], m.Tags["dc"], partition, segment)
}

func memberType(m *api.Member) string {
	switch m.Tags["role"] {
	case "consul":
		return "server"
	case "node":
		return "client"
	}
	return "unknown"
}

func memberStatus(status int) string {
	switch status {
	case api.MemberNone:
		return "none"
	case api.MemberAlive:
		return "alive"
	case api.MemberLeaving:
		return "leaving"
	case api.MemberLeft:
		return "left"
	case api.MemberFailed:
		return "failed"
	}
	return "unknown"
}

// Join makes the agent join the cluster of each address. It prints to warn which of them
// did not answer; one that did is enough.
func Join(ctx context.Context, c *client.Client, out, warn io.Writer, addrs []string, wan bool) error {
	joined := 0
	var last error
	for _, addr := range addrs {
		if err := c.Join(ctx, addr, wan); err != nil {
			last = failed(err, "Error joining address '%s'", addr)
			fmt.Fprintln(warn, last)
			continue
		}
		joined++
	}
	if joined == 0 {
		return &failure{text: "Failed to join any nodes.", cause: last}
	}
	fmt.Fprintf(out, "Successfully joined cluster by contacting %d nodes.\n", joined)
	return nil
}

// Leave makes the agent leave its cluster and stop.
func Leave(ctx context.Context, c *client.Client, out io.Writer) error {
	if err := c.Leave(ctx); err != nil {
		return failed(err, "Error leaving")
	}
	fmt.Fprintln(out, "Graceful leave complete")
	return nil
}

// ForceLeave turns a failed member into one that left, and with prune forgets
// it at once.
func ForceLeave(ctx context.Context, c *client.Client, node string, prune, wan bool) error {
	if node == "" {
		return refused("A node name must be specified to force leave.")
	}
	if err := c.ForceLeave(ctx, node, prune, wan); err != nil {
		return failed(err, "Error force leaving")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
