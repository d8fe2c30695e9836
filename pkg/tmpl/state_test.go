package tmpl

import "testing"

func TestTransitions(t *testing.T) {
	for name, c := range map[string]struct {
		pass   passResult
		events []event
		want   state
		shown  string
	}{
		"first data":            {passBlocked, []event{eventBlocked}, stateWaiting, StateWaiting},
		"rendered":              {passComplete, []event{eventBlocked, eventOutput, eventWritten}, stateRendered, StateRendered},
		"withheld":              {passFailed, []event{eventOutput, eventWritten, eventFailed}, stateFailed, StateFailed},
		"a full disk":           {passComplete, []event{eventOutput, eventWriteFailed}, stateRetry, StateFailed},
		"a check":               {passComplete, []event{eventOutput, eventRejected}, stateRejected, StateRejected},
		"a check, then data":    {passComplete, []event{eventOutput, eventRejected, eventOutput}, statePending, StatePending},
		"a command":             {passComplete, []event{eventOutput, eventWritten, eventRefused}, stateRetry, StateFailed},
		"a command, thrice":     {passComplete, []event{eventOutput, eventWritten, eventRefused, eventWritten, eventRefusedOften}, stateRefused, StateFailed},
		"refused, then data":    {passComplete, []event{eventRefusedOften, eventRetryNow}, stateRetry, StateFailed},
		"a lost slot":           {passComplete, []event{eventOutput, eventWritten, eventInterrupted}, statePending, StatePending},
		"the old output again":  {passFailed, []event{eventFailed, eventRefused, eventWritten}, stateFailed, StateFailed},
		"gave up":               {passComplete, []event{eventOutput, eventGaveUp, eventBlocked}, stateGaveUp, StateFailed},
		"gave up, then written": {passComplete, []event{eventGaveUp, eventOutput, eventWritten}, stateRendered, StateRendered},
	} {
		u := &unit{pass: c.pass}
		for _, e := range c.events {
			u.transition(e)
		}
		if u.state != c.want || u.state.shown() != c.shown {
			t.Errorf("%s: state %d, shown as %s; want %d, %s", name, u.state, u.state.shown(), c.want, c.shown)
		}
	}
}
