package state

import (
	"iter"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// A Topic is a kind of thing that can change. Snapshots contain the numbers, so they
// never change.
type Topic uint8

const (
	topicKV            Topic = 1  // a key
	topicNodes         Topic = 2  // any node record
	topicNode          Topic = 3  // a node record, by name
	topicNodeID        Topic = 4  // which node has this id
	topicNodeMeta      Topic = 5  // the Meta of any existing node
	topicNodeServices  Topic = 6  // the instances of a node
	topicNodeChecks    Topic = 7  // the checks of a node
	topicServices      Topic = 8  // the set of service names and their tags
	topicInstances     Topic = 9  // any instance
	topicService       Topic = 10 // the instances of a service and their nodes' records
	topicServiceHealth Topic = 11 // all checks that determine the health of a service's instances
	topicServiceChecks Topic = 12 // the checks of a service's instances, without those of nodes
	topicChecks        Topic = 13 // any check
	topicState         Topic = 14 // the checks in one state
	topicSessions      Topic = 15 // any session
	topicSession       Topic = 16 // a session, by id
	topicNodeSessions  Topic = 17 // the sessions of a node
	topicDeadlines     Topic = 18 // keys, lock-delays and events that expire
	topicJobs          Topic = 19 // any job
	topicJob           Topic = 20 // a job, by id
	topicCalls         Topic = 21 // what the agent of a node has to run or to stop
	topicEvents        Topic = 22 // any durable event
	topicEvent         Topic = 23 // the durable events of a name
	topicEventAcks     Topic = 24 // a durable event and its acknowledgements, by id
	topicCount               = 25
)

// MaxTombstones limits the tombstones of a topic. Beyond it the oldest are dropped
// and the topic's floor rises. That raises the index of absent things and wakes
// nobody.
const MaxTombstones = 1 << 14

// A Touch names a thing that a batch has changed.
type Touch struct {
	Topic Topic
	Key   string
}

// A Watch names what an answer was read from: one thing or, with Prefix, all things
// whose key begins with Key.
type Watch struct {
	Topic  Topic
	Key    string
	Prefix bool
}

// Meta is the index of an answer, at least 1, and what to watch for its next change.
type Meta struct {
	Index uint64
	Watch []Watch
}

// A changeIndex is the raft index at which a thing last changed. That of a thing
// which exists no more is its tombstone. A key that exists has no changeIndex: its
// ModifyIndex is the same.
type changeIndex struct {
	Topic     Topic
	Key       string
	Index     uint64
	Tombstone bool `codec:"Dead"`
}

// touch records that a thing has changed.
func (x *tx) touch(topic Topic, key string) { x.pending[Touch{topic, key}] = true }

// recheck records that a thing may exist now, or exist no more, without a change that
// readers see.
func (x *tx) recheck(topic Topic, key string) {
	t := Touch{topic, key}
	if !x.pending[t] {
		x.pending[t] = false
	}
}

// updateIndexes writes the change indexes for the command that just ran. It runs once
// per command and not per batch, so that the state does not depend on the batches.
func (x *tx) updateIndexes() {
	if len(x.pending) == 0 {
		return
	}
	for t, touched := range x.pending {
		old := first[changeIndex](x.reader, tableIndexes, "id", changeKey(t.Topic, t.Key))
		ci := &changeIndex{Topic: t.Topic, Key: t.Key, Index: x.Index, Tombstone: !x.exists(t)}
		if touched {
			x.touched[t] = struct{}{}
		} else if old == nil || old.Tombstone == ci.Tombstone {
			continue
		} else {
			ci.Index = old.Index
		}
		if t.Topic == topicKV && !ci.Tombstone {
			ci = nil
		}
		x.putIndex(old, ci)
	}
	clear(x.pending)
	x.trimTombstones()
}

// putIndex replaces old by ci; either may be nil.
func (x *tx) putIndex(old, ci *changeIndex) {
	if old != nil && old.Tombstone {
		x.tombstones[old.Topic]--
	}
	if ci == nil {
		if old != nil {
			x.delete(tableIndexes, old)
		}
		return
	}
	if ci.Tombstone {
		x.tombstones[ci.Topic]++
	}
	x.insert(tableIndexes, ci)
}

// trimTombstones drops the oldest tombstones beyond the limit.
func (x *tx) trimTombstones() {
	for topic := range x.tombstones {
		over := x.tombstones[topic] - x.maxTombstones
		if over <= 0 {
			continue
		}
		for ci := range scan[changeIndex](x.reader, tableIndexes, "dead_prefix", []byte{byte(topic)}) {
			x.Floors[topic] = max(x.Floors[topic], ci.Index)
			x.putIndex(ci, nil)
			if over--; over == 0 {
				break
			}
		}
	}
}

// exists says whether a thing exists. Topics without keys always do.
func (r reader) exists(t Touch) bool {
	switch t.Topic {
	case topicKV:
		return first[api.KVPair](r, tableKV, "id", []byte(t.Key)) != nil
	case topicNode, topicNodeServices, topicNodeChecks:
		return r.node(t.Key) != nil
	case topicNodeID:
		return r.nodeByID(t.Key) != nil
	case topicService, topicServiceHealth, topicServiceChecks:
		return first[instance](r, tableServices, "name", nodeKey(t.Key)) != nil
	case topicState:
		return first[api.HealthCheck](r, tableChecks, "status", nodeKey(t.Key)) != nil
	case topicSession:
		return r.session(t.Key) != nil
	case topicEvent:
		return first[event](r, tableEvents, "name", keyOf(t.Key)) != nil
	case topicEventAcks:
		return r.event(t.Key) != nil
	case topicNodeSessions:
		return first[api.Session](r, tableSessions, "node", nodeKey(t.Key)) != nil
	case topicJob:
		return r.job(t.Key) != nil
	case topicCalls:
		return first[jobTarget](r, tableJobTargets, "node", nodeKey(t.Key)) != nil
	}
	return true
}

// lastChange is the index at which a thing last changed. Without a change index it
// is the floor of the topic.
func (r reader) lastChange(w Watch) uint64 {
	if w.Prefix {
		newest := r.Floors[w.Topic]
		for m := range r.indexesUnder(w.Topic, w.Key) {
			newest = max(newest, m.Index)
		}
		return newest
	}
	if m := first[changeIndex](r, tableIndexes, "id", changeKey(w.Topic, w.Key)); m != nil {
		return m.Index
	}
	return r.Floors[w.Topic]
}

func (r reader) indexesUnder(topic Topic, prefix string) iter.Seq[*changeIndex] {
	return scan[changeIndex](r, tableIndexes, "id_prefix", changeKey(topic, prefix))
}

// meta makes the Meta of an answer that was read from these things.
func (r reader) meta(watches ...Watch) Meta {
	m := Meta{Index: 1, Watch: watches}
	for _, w := range watches {
		m.Index = max(m.Index, r.lastChange(w))
	}
	return m
}

// add adds what else an answer was read from.
func (m *Meta) add(read Meta) {
	m.Index = max(m.Index, read.Index)
	m.Watch = append(m.Watch, read.Watch...)
}

// watchName watches one thing whose name is matched without regard to case.
func watchName(topic Topic, name string) Watch {
	return Watch{Topic: topic, Key: strings.ToLower(name)}
}

// watchTopic watches a topic without keys.
func watchTopic(topic Topic) Watch { return Watch{Topic: topic} }
