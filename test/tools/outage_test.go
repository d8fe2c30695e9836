package tools

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// everything is one line that no outage may shorten.
const everything = `{{ range nodes }}{{ .Node }} {{ end }}:{{ range service "web" }} {{ .ID }}{{ end }}`

// Every server is killed and started again, over and over, while one tmpl asks
// a server and one a client agent: no version of a file ever lacks a node or an
// instance, because none has left.
func TestKillOfAllServersShrinksNothing(t *testing.T) {
	h := cluster(t)
	c1 := h.agent("c1")
	for _, id := range []string{"web-2", "web-3"} {
		c1.register("web", id, 80)
	}
	registerHere(c1, "web", "web-1")
	want := "c1 outside s1 s2 s3 : web-1 web-2 web-3"
	c1.put("round", "0")
	awaitInstances(c1, 3)
	followers := []*folder{work(t, h.agent("s1")), work(t, c1)}
	for _, f := range followers {
		f.write("in", everything+` {{ key "round" }}{{ "\n" }}`)
		f.tmpl("-template", "in:out:cat out >>versions")
		f.awaitText("out", want+" 0\n")
	}
	for round := 1; round <= 3; round++ {
		for _, s := range h.servers() {
			s.kill()
		}
		for _, s := range h.servers() {
			s.start()
		}
		c1.put("round", fmt.Sprint(round))
		for _, f := range followers {
			f.awaitPart("out", fmt.Sprintf(" %d\n", round))
		}
	}
	for _, f := range followers {
		n := 0
		for version := range strings.Lines(f.read("versions")) {
			n++
			if !strings.HasPrefix(version, want+" ") {
				t.Errorf("version %d: %q, want %q", n, version, want)
			}
		}
	}
}

// tmpl asks a client agent, whose cluster loses its leader.
func TestLeaderKilledBehindAClientAgent(t *testing.T) {
	h := cluster(t)
	c1 := h.agent("c1")
	registerHere(c1, "web", "web-1")
	awaitInstances(c1, 1)
	f := work(t, c1)
	f.write("in", everything)
	f.tmpl("-template", "in:out:(cat out; echo) >>versions")
	f.awaitText("out", "c1 s1 s2 s3 : web-1")

	leader, err := c1.StatusLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(h.agents, func(a *agent) bool {
		return strings.Split(a.addr, ":")[0] == strings.Split(leader, ":")[0]
	})
	if at < 0 {
		t.Fatalf("no agent is the leader %q", leader)
	}
	dead := h.agents[at]
	dead.kill()
	registerHere(c1, "web", "web-2")
	f.awaitText("out", "c1 s1 s2 s3 : web-1 web-2")
	dead.start()
	if err := c1.ServiceDeregister(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	f.awaitText("out", "c1 s1 s2 s3 : web-2")
	want := "c1 s1 s2 s3 : web-1\nc1 s1 s2 s3 : web-1 web-2\nc1 s1 s2 s3 : web-2\n"
	f.awaitText("versions", want)
}

// unreachable is what tmpl says of an agent that gives no answer at all.
var unreachable = regexp.MustCompile(`cannot get data.* error="(GET|POST) `)

// The agent is down at the start: tmpl says so once, and renders when it comes.
// It is down later: the file stays, and follows again.
func TestAgentComesAndGoes(t *testing.T) {
	h := newHouse(t)
	a := h.add("s1", "-server", "-bootstrap-expect=1", "-data-dir="+h.dir+"/s1")
	f := work(t, a)
	f.write("in", `{{ key "a" }}{{ range nodes }} {{ .Node }}{{ end }}`)
	f.tmpl("-template", "in:out:(cat out; echo) >>versions")
	f.awaitPart("log", "cannot get data", "connection refused")
	a.start()
	a.awaitReady()
	f.awaitPart("log", "got data again", "template waits for data", "kv.get(a) (nothing there yet)")
	if text := f.read("out"); text != "" {
		t.Fatalf("rendered before the key was there: %q", text)
	}
	a.put("a", "1")
	f.awaitText("out", "1 s1")

	a.kill()
	said := func(n int) {
		until(t, "an outage is said", func(context.Context) error {
			if got := len(unreachable.FindAllString(f.read("log"), -1)); got != n {
				return fmt.Errorf("said %d times", got)
			}
			return nil
		})
	}
	said(2)
	a.start()
	a.awaitReady()
	a.put("a", "2")
	f.awaitText("out", "2 s1")
	f.awaitText("versions", "1 s1\n2 s1\n")
	said(2)
}

func registerHere(a *agent, service, id string) {
	a.house.t.Helper()
	if err := a.ServiceRegister(a.house.t.Context(), &api.AgentServiceRegistration{Name: service, ID: id, Port: 80}); err != nil {
		a.house.t.Fatal(err)
	}
}

// awaitInstances waits until n instances of web pass.
func awaitInstances(a *agent, n int) {
	a.house.t.Helper()
	until(a.house.t, "the instances are in the catalog", func(ctx context.Context) error {
		instances, _, err := a.HealthService(ctx, "web", true, nil)
		if err == nil && len(instances) != n {
			err = fmt.Errorf("%d instances", len(instances))
		}
		return err
	})
}
