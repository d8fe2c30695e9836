package operator

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// RaftPeers lists the servers of raft's configuration.
func RaftPeers(ctx context.Context, c *client.Client, out io.Writer, o client.Options) error {
	var conf api.RaftConfiguration
	if _, err := c.Get(ctx, "/v1/operator/raft/configuration", &o, &conf); err != nil {
		return failed(err, "Error getting peers: Failed to retrieve raft configuration")
	}
	var newest uint64
	for _, s := range conf.Servers {
		if s.Leader {
			newest = s.LastIndex
		}
	}
	rows := [][]string{{"Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"}}
	for _, s := range conf.Servers {
		state, trails := "follower", fmt.Sprintf("%d commits", lag(newest, s.LastIndex))
		if s.Leader {
			state, trails = "leader", "-"
		}
		rows = append(rows, []string{
			s.Node, s.ID, s.Address, state, strconv.FormatBool(s.Voter), s.ProtocolVersion,
			strconv.FormatUint(s.LastIndex, 10), trails,
		})
	}
	table(out, rows)
	return nil
}

func lag(newest, index uint64) uint64 {
	if index > newest {
		return 0 // no leader known, or it fell behind while it was asked
	}
	return newest - index
}
