package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// statusOf maps an error to an HTTP status and a body; nothing else does. A StatusError
// has its own status. So have some texts that another agent has answered with.
// Anything else is a 500.
func statusOf(err error) (int, string) {
	text := err.Error()
	if isNoLeader(err) {
		return http.StatusInternalServerError, api.TextNoLeader // agents and clients compare the whole body
	}
	var own *api.StatusError
	if errors.As(err, &own) {
		return own.Code, text
	}
	for _, known := range []struct {
		text string
		code int
	}{
		{"Permission denied", http.StatusForbidden},
		{"ACL not found", http.StatusForbidden},
		{"RPC rate limit exceeded", http.StatusTooManyRequests},
		{"Rate limit reached, try again later", http.StatusTooManyRequests},
		{"rate limit exceeded, try again later or against a different server", http.StatusTooManyRequests},
		{"rate limit exceeded for operation that can only be performed by the leader", http.StatusServiceUnavailable},
	} {
		if strings.Contains(text, known.text) {
			return known.code, text
		}
	}
	return http.StatusInternalServerError, text
}

// fail answers with an error.
func (rq *request) fail(err error) {
	if errors.Is(err, context.Canceled) && stopping(rq.ctx) {
		err = ErrStopping
	}
	code, text := statusOf(err)
	if isNoLeader(err) && !rq.forwarded {
		rq.explainNoLeader()
	}
	// A read of the catalog or of sessions that failed has headers like one that
	// found nothing, which say that no leader is known. Reads of instances have none.
	discovers := rq.route.headers == discovery && !rq.route.noFailureHeaders
	if code >= http.StatusInternalServerError && (discovers || rq.route.failureHeaders) {
		h := rq.h
		h.Set(api.HeaderIndex, "1")
		h.Set(api.HeaderKnownLeader, "false")
		h.Set(api.HeaderLastContact, "0")
		h.Set(api.HeaderQueryBackend, "blocking-query")
		if discovers {
			h.Set(api.HeaderConsistency, rq.mode.String())
		}
	}
	rq.text(code, text)
}

// stopping says whether a request ends because the agent stops, not because its client
// went away.
func stopping(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), ErrStopping)
}

// badRequest is a 400 with the given text.
func badRequest(text string) error { return api.Errorf(http.StatusBadRequest, "%s", text) }
