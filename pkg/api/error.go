package api

import (
	"fmt"
	"net/http"
	"strings"
)

// Texts of errors that clients match on. They are part of the API.
const (
	TextNoLeader      = "No cluster leader"
	TextNoServers     = "No known Consul servers"
	TextNoDatacenter  = "No path to datacenter"
	TextUnknownWrite  = "write outcome unknown"
	TextNotConsistent = "Not ready to serve consistent reads"
)

// Errors that say what has become of a request. Compare them with errors.Is; an
// answer of another agent becomes one by AnswerError.
var (
	// ErrNoLeader: no leader is known, or the server that was asked does not lead.
	// Nothing was done: the request may be sent again, elsewhere too.
	ErrNoLeader = Errorf(http.StatusInternalServerError, TextNoLeader)
	// ErrNoServers: no server could be reached. Nothing was done.
	ErrNoServers = Errorf(http.StatusInternalServerError, TextNoServers)
	// ErrNoDatacenter: there is no such datacenter, or it cannot be reached.
	ErrNoDatacenter = Errorf(http.StatusInternalServerError, TextNoDatacenter)
	// ErrUnknownWrite: the write may have been done, be done later, or never. Whatever
	// else such an error wraps proves nothing.
	ErrUnknownWrite = Errorf(http.StatusInternalServerError, TextUnknownWrite)
	// ErrNotConsistent: the server cannot prove that what it would answer is the newest.
	ErrNotConsistent = Errorf(http.StatusInternalServerError, TextNotConsistent)
)

// StatusError is an answer other than success. A handler returns it to set the HTTP
// status, and the client returns it for such an answer. Text is the body without a
// trailing newline.
type StatusError struct {
	Code int
	Text string
	is   error // one of the errors above, or nil
}

// Errorf makes a StatusError.
func Errorf(code int, format string, args ...any) error {
	return &StatusError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// AnswerError is the error that another agent has answered with. A body that is the
// text of one of the errors above, alone or before a colon, is that error.
func AnswerError(code int, body []byte) error {
	e := &StatusError{Code: code, Text: strings.TrimSpace(string(body))}
	if code != http.StatusInternalServerError {
		return e
	}
	for _, known := range []error{ErrNoLeader, ErrNoServers, ErrNoDatacenter, ErrUnknownWrite, ErrNotConsistent} {
		if rest, ok := strings.CutPrefix(e.Text, known.Error()); ok && (rest == "" || rest[0] == ':') {
			e.is = known
		}
	}
	return e
}

func (e *StatusError) Error() string { return e.Text }

func (e *StatusError) Unwrap() error { return e.is }
