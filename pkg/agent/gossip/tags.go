package gossip

import "strconv"

// The tags by which agents describe themselves to each other. The names are
// those of Consul, whose tools show them.
const (
	tagRole   = "role"
	tagDC     = "dc"
	tagID     = "id"
	tagPort   = "port"
	tagBuild  = "build"
	tagExpect = "expect"

	roleServer = "consul"
	roleClient = "node"
)

// Tags of muster's own.
const (
	// TagBoot is "1" on a server that has raft state, TagProposal the set of
	// servers with which one without wants to begin. See package server.
	TagBoot     = "boot"
	TagProposal = "propose"

	// TagCluster is the id of the cluster that a server belongs to, TagRun names the
	// start of it that runs: the number of the start, a point, and a random name.
	TagCluster = "cluster"
	TagRun     = "run"

	// tagLevel is the feature level: commands that a lower level cannot apply are
	// not proposed while such a member is there.
	tagLevel = "level"
)

func (c Config) tags() map[string]string {
	tags := map[string]string{
		tagRole:   roleClient,
		tagDC:     c.Datacenter,
		"segment": "",
		tagID:     c.NodeID,
		"vsn":     "2",
		"vsn_min": "2",
		"vsn_max": "3",
		tagBuild:  c.Build,
		tagLevel:  strconv.Itoa(max(c.Level, 1)),
	}
	if c.Server {
		tags[tagRole] = roleServer
		tags["raft_vsn"] = "3"
		if c.Cluster != "" {
			tags[TagCluster] = c.Cluster
		}
		if c.Run != "" {
			tags[TagRun] = c.Run
		}
		tags[tagPort] = strconv.Itoa(c.ServerPort)
		tags["acls"] = "0"
		tags["ft_fs"] = "1"
		tags["ft_si"] = "1"
		if c.Bootstrap {
			tags["bootstrap"] = "1"
		}
		if c.Expect != 0 {
			tags[tagExpect] = strconv.Itoa(c.Expect)
		}
		if c.UseTLS {
			tags["use_tls"] = "1"
		}
	}
	for k, v := range c.Tags {
		tags[k] = v
	}
	return tags
}
