package state

import "fmt"

// ClusterID sets the id of the cluster, which never changes. Its result is nil, also
// for the same id, or an error for another one.
type ClusterID struct{ ID string }

func (*ClusterID) kind() byte { return typeClusterID }

func (*ClusterID) level() int { return LevelClusterID }

func (c *ClusterID) apply(x *tx) any { return x.clusterID(c) }

// ClusterID is the id of the cluster; "" if none has been set yet.
func (sn *Snapshot) ClusterID() string { return sn.root.ClusterID }

func (x *tx) clusterID(c *ClusterID) error {
	if x.ClusterID != "" && x.ClusterID != c.ID {
		return fmt.Errorf("this cluster has the id %s and cannot get another one, %s", x.ClusterID, c.ID)
	}
	x.ClusterID = c.ID
	return nil
}
