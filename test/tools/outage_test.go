package tools

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// everything is one line that no outage may shorten.
const everything = `{{ range nodes }}{{ .Node }} {{ end }}:{{ range service "web" }} {{ .ID }}{{ end }}`

// Every server is killed and started again, over and over, while one tmpl asks
// a server and one a client agent: no version of a file ever lacks a node or an
// instance, because none has left.
func TestKillOfAllServersShrinksNothing(t *testing.T) {
	h := harness.Start(t, 3, 1)
	c1 := h.Agent("c1")
	for _, id := range []string{"web-2", "web-3"} {
		c1.RegisterNode("web", id, 80)
	}
	registerHere(c1, "web", "web-1")
	want := "c1 outside s1 s2 s3 : web-1 web-2 web-3"
	c1.AwaitPutKey("round", "0")
	awaitInstances(c1, 3)
	followers := []*folder{h.Agent("s1").Folder(t), c1.Folder(t)}
	for _, f := range followers {
		f.Write("in", everything+` {{ key "round" }}{{ "\n" }}`)
		f.Run("tmpl", "-template", "in:out:cat out >>versions")
		f.AwaitText("out", want+" 0\n")
	}
	for round := 1; round <= 3; round++ {
		for _, s := range h.Agents[:3] {
			s.Kill()
		}
		for _, s := range h.Agents[:3] {
			s.Start()
		}
		c1.AwaitPutKey("round", fmt.Sprint(round))
		for _, f := range followers {
			f.AwaitPart("out", fmt.Sprintf(" %d\n", round))
		}
	}
	for _, f := range followers {
		n := 0
		for version := range strings.Lines(f.Read("versions")) {
			n++
			if !strings.HasPrefix(version, want+" ") {
				t.Errorf("version %d: %q, want %q", n, version, want)
			}
		}
	}
}

// tmpl asks a client agent, whose cluster loses its leader.
func TestLeaderKilledBehindAClientAgent(t *testing.T) {
	h := harness.Start(t, 3, 1)
	c1 := h.Agent("c1")
	registerHere(c1, "web", "web-1")
	awaitInstances(c1, 1)
	f := c1.Folder(t)
	f.Write("in", everything)
	f.Run("tmpl", "-template", "in:out:(cat out; echo) >>versions")
	f.AwaitText("out", "c1 s1 s2 s3 : web-1")

	dead := h.Leader()
	dead.Kill()
	registerHere(c1, "web", "web-2")
	f.AwaitText("out", "c1 s1 s2 s3 : web-1 web-2")
	dead.Start()
	if err := c1.ServiceDeregister(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	f.AwaitText("out", "c1 s1 s2 s3 : web-2")
	want := "c1 s1 s2 s3 : web-1\nc1 s1 s2 s3 : web-1 web-2\nc1 s1 s2 s3 : web-2\n"
	f.AwaitText("versions", want)
}

// unreachable is what tmpl says of an agent that gives no answer at all.
var unreachable = regexp.MustCompile(`cannot get data.* error="(GET|POST) `)

// The agent is down at the start: tmpl says so once, and renders when it comes.
// It is down later: the file stays as it is until the agent is back.
func TestAgentComesAndGoes(t *testing.T) {
	h := harness.New(t)
	a := h.Add("s1", true, "-bootstrap-expect=1")
	f := a.Folder(t)
	f.Write("in", `{{ key "a" }}{{ range nodes }} {{ .Node }}{{ end }}`)
	f.Run("tmpl", "-template", "in:out:(cat out; echo) >>versions")
	f.AwaitPart("log", "cannot get data", "connection refused")
	a.Start()
	a.AwaitReady()
	f.AwaitPart("log", "got data again", "template waits for data", "kv.get(a) (nothing there yet)")
	if text := f.Read("out"); text != "" {
		t.Fatalf("rendered before the key was there: %q", text)
	}
	a.AwaitPutKey("a", "1")
	f.AwaitText("out", "1 s1")

	a.Kill()
	said := func(n int) {
		harness.Until(t, "an outage is said", func(context.Context) error {
			if got := len(unreachable.FindAllString(f.Read("log"), -1)); got != n {
				return fmt.Errorf("said %d times", got)
			}
			return nil
		})
	}
	said(2)
	a.Start()
	a.AwaitReady()
	a.AwaitPutKey("a", "2")
	f.AwaitText("out", "2 s1")
	f.AwaitText("versions", "1 s1\n2 s1\n")
	said(2)
}

func registerHere(a *agent, service, id string) {
	a.C.T.Helper()
	if err := a.ServiceRegister(a.C.T.Context(), &api.AgentServiceRegistration{Name: service, ID: id, Port: 80}); err != nil {
		a.C.T.Fatal(err)
	}
}

// awaitInstances waits until n instances of web pass.
func awaitInstances(a *agent, n int) {
	a.C.T.Helper()
	harness.Until(a.C.T, "the instances are in the catalog", func(ctx context.Context) error {
		instances, _, err := a.HealthService(ctx, "web", true, nil)
		if err == nil && len(instances) != n {
			err = fmt.Errorf("%d instances", len(instances))
		}
		return err
	})
}
