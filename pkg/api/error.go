package api

import "fmt"

// StatusError is an answer other than success: what a handler returns to set
// the HTTP status, and what the client gives back for it. Text is the body,
// without a trailing newline.
type StatusError struct {
	Code int
	Text string
}

// Errorf makes a StatusError.
func Errorf(code int, format string, args ...any) error {
	return &StatusError{Code: code, Text: fmt.Sprintf(format, args...)}
}

func (e *StatusError) Error() string { return e.Text }
