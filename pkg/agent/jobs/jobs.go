// Package jobs is what the agents of a datacenter do at each other's word: user
// events (event.go), which every agent keeps for those who ask it.
//
// What it promises:
//   - An event that was fired is in the list of every agent that its filters
//     match and that lives, once, mostly within milliseconds; it is a message of
//     package bus, which says what may get lost.
//   - An agent keeps the last MaxEvents. Whoever waits for one costs no goroutine
//     but his own and no memory once he has gone; all who wait for one name share
//     the answer and its encoding.
//   - On the wire an event is what the reference's agents send and understand.
//
// The package starts no goroutine.
package jobs
