package state

import (
	"iter"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// A Topic is a kind of thing that can change. The numbers are stored in
// snapshots: they are for ever.
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
	topicServiceHealth Topic = 11 // all checks that decide on a service's instances
	topicServiceChecks Topic = 12 // the checks of a service's instances themselves
	topicChecks        Topic = 13 // any check
	topicState         Topic = 14 // the checks in one state
	topicSessions      Topic = 15 // any session
	topicSession       Topic = 16 // a session, by id
	topicNodeSessions  Topic = 17 // the sessions of a node
	topicDeadlines     Topic = 18 // the set of things that time ends
	topicJobs          Topic = 19 // any job
	topicJob           Topic = 20 // a job, by id
	topicCalls         Topic = 21 // what the agent of a node has to run or to end
	topicEvents        Topic = 22 // any durable event
	topicEvent         Topic = 23 // the durable events of a name
	topicEventAcks     Topic = 24 // a durable event and who acknowledged it, by id
	topicCount               = 25
)

// MaxTombstones bounds, per topic, what is remembered of things that are gone.
// Beyond it the oldest are dropped and the topic's floor rises, which raises the
// index of what is absent without waking anybody.
const MaxTombstones = 1 << 14

// A Touch names one thing that a batch has changed.
type Touch struct {
	Topic Topic
	Key   string
}

// A Watch names what an answer was read from: one thing, or, with Prefix, all
// whose key begins with Key.
type Watch struct {
	Topic  Topic
	Key    string
	Prefix bool
}

// Meta says where an answer stands: its index (at least 1) and what to watch
// for its next change.
type Meta struct {
	Index uint64
	Watch []Watch
}

// A mark remembers when something last changed. Marks of what is there stay;
// those of what is gone (Dead) are its tombstones. A key has no mark while it
// is there: its own ModifyIndex is the same.
type mark struct {
	Topic Topic
	Key   string
	Index uint64
	Dead  bool
}

// touch notes that something visible changed.
func (x *tx) touch(topic Topic, key string) { x.marks[Touch{topic, key}] = true }

// settle notes that something may have begun or ceased to exist without a
// visible change of its own.
func (x *tx) settle(topic Topic, key string) {
	t := Touch{topic, key}
	if !x.marks[t] {
		x.marks[t] = false
	}
}

// settleMarks writes the marks of the command that just ran. It runs once per
// command, not per batch: how the log is cut into batches must leave no trace.
func (x *tx) settleMarks() {
	if len(x.marks) == 0 {
		return
	}
	for t, touched := range x.marks {
		old := first[mark](x.reader, tableMarks, "id", markKey(t.Topic, t.Key))
		m := &mark{Topic: t.Topic, Key: t.Key, Index: x.Index, Dead: !x.alive(t)}
		if touched {
			x.touched[t] = struct{}{}
		} else if old == nil || old.Dead == m.Dead {
			continue
		} else {
			m.Index = old.Index
		}
		if t.Topic == topicKV && !m.Dead {
			m = nil
		}
		x.putMark(old, m)
	}
	clear(x.marks)
	x.trim()
}

// putMark replaces old by m; either may be nil.
func (x *tx) putMark(old, m *mark) {
	if old != nil && old.Dead {
		x.dead[old.Topic]--
	}
	if m == nil {
		if old != nil {
			x.delete(tableMarks, old)
		}
		return
	}
	if m.Dead {
		x.dead[m.Topic]++
	}
	x.insert(tableMarks, m)
}

// trim drops the oldest tombstones beyond the bound.
func (x *tx) trim() {
	for topic := range x.dead {
		over := x.dead[topic] - x.maxDead
		if over <= 0 {
			continue
		}
		for m := range scan[mark](x.reader, tableMarks, "dead_prefix", []byte{byte(topic)}) {
			x.Floors[topic] = max(x.Floors[topic], m.Index)
			x.putMark(m, nil)
			if over--; over == 0 {
				break
			}
		}
	}
}

// alive tells whether the thing a mark is about exists. What is of the whole
// catalog always does.
func (r reader) alive(t Touch) bool {
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

// lastChange is the index at which a thing last changed, or, where nothing is
// known of it, the floor of its kind.
func (r reader) lastChange(w Watch) uint64 {
	if w.Prefix {
		newest := r.Floors[w.Topic]
		for m := range r.marksUnder(w.Topic, w.Key) {
			newest = max(newest, m.Index)
		}
		return newest
	}
	if m := first[mark](r, tableMarks, "id", markKey(w.Topic, w.Key)); m != nil {
		return m.Index
	}
	return r.Floors[w.Topic]
}

func (r reader) marksUnder(topic Topic, prefix string) iter.Seq[*mark] {
	return scan[mark](r, tableMarks, "id_prefix", markKey(topic, prefix))
}

// meta makes the Meta of an answer that was read from the things named.
func (r reader) meta(watches ...Watch) Meta {
	m := Meta{Index: 1, Watch: watches}
	for _, w := range watches {
		m.Index = max(m.Index, r.lastChange(w))
	}
	return m
}

// add makes it the Meta of an answer that was read from more.
func (m *Meta) add(read Meta) {
	m.Index = max(m.Index, read.Index)
	m.Watch = append(m.Watch, read.Watch...)
}

// about watches one thing whose name is matched without regard to case.
func about(topic Topic, name string) Watch {
	return Watch{Topic: topic, Key: strings.ToLower(name)}
}

// anyOf watches everything a topic stands for.
func anyOf(topic Topic) Watch { return Watch{Topic: topic} }
