package operator

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
)

// reply is what the fake agent answers; a code of 0 is 200.
type reply struct {
	code int
	body string
}

// exchange is one call of a subcommand: what the agent is asked, in requests
// such as "GET /v1/kv/a?recurse=", what it answers, and what is printed.
type exchange struct {
	name   string
	agent  map[string]reply
	in     string
	run    func(ctx context.Context, c *client.Client, s streams) error
	out    string
	warn   string
	err    string
	code   int
	bodies []string // of the PUT requests, in order
}

type streams struct {
	in        io.Reader
	out, warn io.Writer
}

func (e exchange) test(t *testing.T) {
	var bodies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := r.Method + " " + r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			request += "?" + r.URL.RawQuery
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodPut {
			bodies = append(bodies, string(body))
		}
		answer, ok := e.agent[request]
		if !ok {
			t.Errorf("unexpected request %s", request)
			answer.code = http.StatusTeapot
		}
		if answer.code != 0 {
			w.WriteHeader(answer.code)
		}
		_, _ = io.WriteString(w, answer.body)
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()

	var out, warn bytes.Buffer
	err = e.run(t.Context(), c, streams{bytes.NewBufferString(e.in), &out, &warn})
	text := ""
	if err != nil {
		text = err.Error()
	}
	if e.code == 0 && e.err != "" {
		e.code = cli.ExitError
	}
	if text != e.err && e.code != exitNoMembers || cli.Code(err) != e.code {
		t.Errorf("error %q with code %d, want %q with %d", text, cli.Code(err), e.err, e.code)
	}
	if out.String() != e.out {
		t.Errorf("printed\n%q, want\n%q", out.String(), e.out)
	}
	if warn.String() != e.warn {
		t.Errorf("warned\n%q, want\n%q", warn.String(), e.warn)
	}
	if e.bodies != nil && !equal(bodies, e.bodies) {
		t.Errorf("sent %q, want %q", bodies, e.bodies)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func testAll(t *testing.T, all []exchange) {
	for _, e := range all {
		t.Run(e.name, e.test)
	}
}
