package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/watch"
)

// Fixture is recorded data: by request, as watch.Request writes it ("/v1/kv/a",
// "/v1/health/service/web?passing=1"), the body of the API's answer; null for 404.
type Fixture map[string]json.RawMessage

// ReadFixture reads a fixture file.
func ReadFixture(path string) (Fixture, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fixture: %w", err)
	}
	f := Fixture{}
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read fixture %s: %w", path, err)
	}
	return f, nil
}

// Encode is the text of a fixture file: the same data give the same bytes.
func (f Fixture) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out) // sorts by key
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(f)
	return out.Bytes(), err
}

// Fetch answers from the fixture. A request that it lacks is an error.
func (f Fixture) Fetch(_ context.Context, q watch.Request) ([]byte, error) {
	body, ok := f[q.String()]
	switch {
	case !ok:
		return nil, fmt.Errorf("the fixture has no %q: add it, or record anew (null says that there is nothing)", q)
	case bytes.Equal(body, []byte("null")):
		return nil, nil
	}
	return body, nil
}

// record fetches by next and adds the answers to the fixture.
func (f Fixture) record(next tmpl.Fetch) tmpl.Fetch {
	return func(ctx context.Context, q watch.Request) ([]byte, error) {
		body, err := next(ctx, q)
		switch {
		case err != nil:
		case body == nil:
			f[q.String()] = json.RawMessage("null")
		default:
			f[q.String()] = bytes.TrimSpace(body)
		}
		return body, err
	}
}

// Live fetches from an agent, by one request each that does not block.
func Live(c watch.Getter) tmpl.Fetch {
	return func(ctx context.Context, q watch.Request) ([]byte, error) {
		params, err := url.ParseQuery(q.Params)
		if err != nil {
			return nil, err
		}
		var body []byte
		_, err = c.Get(ctx, q.Path, &client.Options{Params: params}, &body)
		if strings.HasPrefix(q.Path, "/v1/kv/") && client.IsStatus(err, http.StatusNotFound) {
			return nil, nil
		}
		return body, err
	}
}
