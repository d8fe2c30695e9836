package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// This file holds what tests of one agent need beside the harness of clusters.

// single runs one server with these flags and waits until it serves.
func single(t *testing.T, flags ...string) *agent {
	t.Helper()
	return harness.Start(t, 1, 0, flags...).Agents[0]
}

// settle waits until every agent has told the catalog all about its node.
func settle(c *cluster) {
	c.T.Helper()
	harness.Within(c.T, 20*time.Second, "every node is fully known", func(ctx context.Context) error {
		nodes, _, err := c.Agents[0].Nodes(ctx, nil)
		for _, n := range nodes {
			if n.TaggedAddresses["lan_ipv4"] == "" {
				err = fmt.Errorf("%s is not yet", n.Node)
			}
		}
		return err
	})
}

// answer is what an agent said to one request.
type answer struct {
	code int
	body string
}

// ask sends a request as it stands.
func ask(a *agent, method, path, body string) answer {
	a.C.T.Helper()
	got, err := tryAsk(a.C.T.Context(), a, method, path, body)
	if err != nil {
		a.C.T.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

func tryAsk(ctx context.Context, a *agent, method, path, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.IP+":8500"+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text)}, err
}

// everything is all that an agent and its cluster hold, with the indexes at
// which it was written.
func everything(a *agent) string {
	a.C.T.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/v1/kv/?recurse", "/v1/catalog/nodes", "/v1/catalog/services", "/v1/catalog/node/" + a.Name,
		"/v1/health/state/any", "/v1/agent/services", "/v1/agent/checks",
	} {
		got := ask(a, "GET", path, "")
		fmt.Fprintf(&all, "%s: %d %s\n", path, got.code, got.body)
	}
	return all.String()
}

// checkIs waits until a check of the agent has this status, in its own eyes and
// in the catalog, and returns the output.
func checkIs(a *agent, id, status string) (output string) {
	a.C.T.Helper()
	harness.Within(a.C.T, 10*time.Second, id+" is "+status, func(ctx context.Context) error {
		checks, _, err := a.HealthNode(ctx, a.Name, nil)
		if err != nil {
			return err
		}
		for _, c := range checks {
			if c.CheckID == id && c.Status == status {
				output = c.Output
				return nil
			}
		}
		return fmt.Errorf("the node's checks are %s", toJSON(checks))
	})
	return output
}

func localCheck(a *agent, id string) *api.HealthCheck {
	a.C.T.Helper()
	checks, err := a.AgentChecks(a.C.T.Context(), nil)
	if err != nil {
		a.C.T.Fatal(err)
	}
	return checks[id]
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// refused runs an agent that must end at once with code 1, and returns what it
// said.
func refused(t *testing.T, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(harness.Bin(t), "agent"), flags...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("agent %q runs where it must refuse:\n%s", flags, out.String())
	}
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("agent %q ends with %v, want code 1:\n%s", flags, err, out.String())
	}
	return out.String()
}

// mentions fails the test for each word that a text lacks.
func mentions(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in:\n%s", word, text)
		}
	}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// header gives the values of one header of an agent's answers.
func header(a *agent, name string) ([]byte, error) {
	req, err := http.NewRequestWithContext(a.C.T.Context(), "GET", "http://"+a.IP+":8500/v1/status/leader", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return json.Marshal(map[string][]string{name: resp.Header.Values(name)})
}
