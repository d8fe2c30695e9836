package clusterid

import (
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/muster-dev/muster/pkg/api"
)

// Transport sends requests to server ports, and says in each to which cluster this agent
// belongs. The answer of a server of another cluster is an error (ErrForeign).
type Transport struct {
	Inner http.RoundTripper
	Own   func() string // the id of this agent's cluster, "" while it knows none
}

// RoundTrip sends one request.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	own := t.Own()
	if own != "" {
		r = r.WithContext(r.Context())
		r.Header = maps.Clone(r.Header)
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set(api.HeaderCluster, own)
	}
	resp, err := t.Inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	theirs := resp.Header.Get(api.HeaderCluster)
	if resp.Header.Del(api.HeaderCluster); own == "" || theirs == "" || theirs == own || resp.StatusCode == http.StatusMisdirectedRequest {
		return resp, nil // the body of a refusal says why
	}
	_ = resp.Body.Close()
	return nil, fmt.Errorf("ask the server at %s: %w", r.URL.Host, Foreign(theirs, own))
}

// RefuseForeign lets next answer the requests of agents of this cluster, and of those that
// belong to none yet. Others are refused with 421 before anything is done. own is the id
// of this server's cluster, "" while it has none; refused is called for each refusal.
func RefuseForeign(next http.Handler, own func() string, refused func(r *http.Request, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mine, theirs := own(), r.Header.Get(api.HeaderCluster)
		if mine != "" {
			w.Header().Set(api.HeaderCluster, mine)
		}
		if mine != "" && theirs != "" && theirs != mine {
			err := Foreign(theirs, mine)
			refused(r, err)
			w.WriteHeader(http.StatusMisdirectedRequest)
			_, _ = io.WriteString(w, "the asking agent is refused: "+err.Error()) // an error: the caller is gone
			return
		}
		r.Header.Del(api.HeaderCluster)
		next.ServeHTTP(w, r)
	})
}
