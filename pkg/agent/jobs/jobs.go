// Package jobs is what the agents of a datacenter do at each other's word: user
// events (event.go), which every agent keeps for those who ask it, and remote
// execution. Of the latter, runner.go and run.go are a node's part, policy.go and
// seen.go what it lets others run, spool.go what was written until somebody reads
// it, and relay.go the way of that through the leader.
//
// What it promises:
//
//   - An event that was fired is in the list of every agent that its filters
//     match and that lives, once, mostly within milliseconds; it is a message of
//     package bus, which says what may get lost.
//
//   - An agent keeps the last MaxEvents. Whoever waits for one costs no goroutine
//     but his own and no memory once he has gone; all who wait for one name share
//     the answer and its encoding.
//
//   - On the wire an event is what the reference's agents send and understand.
//
//   - A node runs what its own configuration allows and nothing else, each job
//     once at most, and what it runs ends with the agent. How it ended is told
//     until the leader has taken note.
//
//   - Output is kept where it was written, within limits, and sent on request:
//     neither a slow reader nor a change of leader loses any.
//
// Events start no goroutine; a Runner's end with its Run.
package jobs
