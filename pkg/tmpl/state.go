package tmpl

import (
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// state is what a unit does about its file. Every pass leads to one of the first column,
// every attempt to write to one of the second.
//
//	new -- pass --+-> waiting               +-> rendered
//	              |                         |
//	              +-> failed                +-> retry ----> (written again when due)
//	              |                         |
//	              +-> pending -- written ---+-> rejected -> (waits for other data)
//	                                        |
//	rendered -- a command refuses it -------+-> refused --> (waits for other data)
type state int

const (
	stateNew      state = iota // it was not executed yet
	stateWaiting               // the last pass lacked data
	stateFailed                // the last pass failed, or its output was withheld
	statePending               // the output is written when it is due
	stateRetry                 // it could not be written, or a command refused it: it is written again when it is due
	stateRejected              // the check rejected it
	stateRefused               // a command refused it too often
	stateRendered              // the destination shows the data
	stateGaveUp                // Once: it failed
)

// held says whether the output waits for other data.
func (s state) held() bool { return s == stateRejected || s == stateRefused }

// shown is the state in Status.
func (s state) shown() string {
	switch s {
	case stateFailed, stateRetry, stateRefused, stateGaveUp:
		return StateFailed
	case statePending:
		return StatePending
	case stateRejected:
		return StateRejected
	case stateRendered:
		return StateRendered
	}
	return StateWaiting
}

// event is what happens to a unit.
type event int

const (
	eventReread       event = iota // the template was read again
	eventBlocked                   // a pass lacked data
	eventFailed                    // a pass failed, or its output was withheld
	eventOutput                    // a pass gave an output
	eventWritten                   // the output was written
	eventWriteFailed               // the output could not be written
	eventRejected                  // the check rejected the output
	eventRefused                   // a command refused what was written
	eventRefusedOften              // it did so too often
	eventInterrupted               // the command of what was written did not run to its end
	eventRetryNow                  // what -exec refused gets another chance, with new data of others
	eventGaveUp                    // Once: it failed
)

// transition is the only function that changes the state of a unit.
func (u *unit) transition(e event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case e == eventWritten:
		u.state = map[passResult]state{passBlocked: stateWaiting, passFailed: stateFailed, passComplete: stateRendered}[u.pass]
	case u.state == stateGaveUp: // stays, unless it is written after all
	case e == eventReread && u.lastMessage != "":
		u.state = stateNew
	case e == eventReread && u.state == stateRetry, e == eventOutput, e == eventInterrupted:
		u.state = statePending
	case e == eventBlocked:
		u.state = stateWaiting
	case e == eventFailed:
		u.state = stateFailed
	case e == eventWriteFailed, e == eventRefused, e == eventRetryNow:
		u.state = stateRetry
	case e == eventRejected:
		u.state = stateRejected
	case e == eventRefusedOften:
		u.state = stateRefused
	case e == eventGaveUp:
		u.state = stateGaveUp
	}
}

// passResult is how the last pass of a unit ended.
type passResult int

const (
	passBlocked passResult = iota // it lacked data
	passFailed
	passComplete
)

// refuser is why an output that was written is written again.
type refuser int

const (
	nobody    refuser = iota
	byCommand         // the template's own command refused it
	byExec            // -exec refused it
	byNoRun           // its command did not run to its end
)

// progress is what Status shows of a unit. The engine writes it under mu.
type progress struct {
	mu      sync.Mutex
	state   state
	queries map[watch.Request]bool // what the last pass asked for; not changed, but replaced
	paths   map[string]bool        // likewise
	missing []string               // what it still waits for

	renders    int // that changed something
	renderedAt time.Time
	changedAt  time.Time
	cause      []string // of the last render
	nextCause  []string // of the next one
	dataAt     time.Time
	err        string
	errAt      time.Time
}

// asked notes what a pass asked for.
func (s *progress) asked(p *pass) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries, s.paths, s.missing = p.queries, p.paths, p.missing
}

// noteCause notes that an answer of q concerns the unit.
func (s *progress) noteCause(q watch.Request) {
	const limit = 20
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dataAt = time.Now()
	if text := q.String(); len(s.nextCause) < limit && !slices.Contains(s.nextCause, text) {
		s.nextCause = append(s.nextCause, text)
	}
}

// rendered notes a render that changed the file, or found it as it should be.
func (s *progress) rendered(changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renderedAt = time.Now()
	if changed {
		s.renders++
		s.changedAt = s.renderedAt
	}
	s.cause, s.nextCause = s.nextCause, nil
	if s.cause == nil {
		s.cause = []string{}
	}
}

// failed notes an error.
func (s *progress) failed(err string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != err {
		s.err, s.errAt = err, time.Now()
	}
}

// trouble notes an error, and says whether it is to be logged.
func (u *unit) trouble(text string) bool {
	u.failed(text)
	return u.news(text)
}
