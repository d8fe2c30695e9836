package check

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const minute = api.Duration(time.Minute)

func TestValidate(t *testing.T) {
	const (
		both     = "Interval and TTL cannot both be specified"
		interval = "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
		ttl      = "TTL must be > 0 for TTL checks"
	)
	for _, c := range []struct {
		def  api.CheckDefinition
		want string
	}{
		{api.CheckDefinition{TTL: minute}, ""},
		{api.CheckDefinition{HTTP: "http://x", Interval: minute}, ""},
		{api.CheckDefinition{AliasService: "web"}, ""},
		{api.CheckDefinition{AliasService: "web", Interval: minute}, ""},
		{api.CheckDefinition{}, ttl},
		{api.CheckDefinition{Interval: minute}, ttl},
		{api.CheckDefinition{DockerContainerID: "x", Interval: minute}, ttl},
		{api.CheckDefinition{HTTP: "http://x", Interval: minute, TTL: minute}, both},
		{api.CheckDefinition{HTTP: "http://x"}, interval},
		{api.CheckDefinition{HTTP: "http://x", Interval: -1}, interval},
		{api.CheckDefinition{ScriptArgs: []string{"true"}}, interval},
		{api.CheckDefinition{TCP: "x:1"}, interval},
		{api.CheckDefinition{UDP: "x:1"}, interval},
		{api.CheckDefinition{GRPC: "x:1"}, interval},
		{api.CheckDefinition{H2PING: "x:1"}, interval},
		{api.CheckDefinition{OSService: "x"}, interval},
		{api.CheckDefinition{AliasService: "web", TCP: "x:1", Interval: minute}, "Interval cannot be set for Alias checks"},
		{api.CheckDefinition{AliasNode: "n", TTL: minute}, "TTL must be not be set for Alias checks"},
		{api.CheckDefinition{TTL: minute, OutputMaxSize: -1}, "MaxOutputMaxSize must be positive"},
		{api.CheckDefinition{TTL: minute, FailuresBeforeWarning: 2, FailuresBeforeCritical: 1}, "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"},
	} {
		got := ""
		if err := Validate(&c.def); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.def, got, c.want)
		}
	}
}

func TestType(t *testing.T) {
	// Everything set, and taken away one by one: the order of precedence.
	def := api.CheckDefinition{
		GRPC: "g", HTTP: "h", TTL: minute, TCP: "t", UDP: "u", AliasService: "a",
		DockerContainerID: "d", ScriptArgs: []string{"s"}, H2PING: "h2", OSService: "os",
	}
	for _, step := range []struct {
		want string
		then func()
	}{
		{TypeGRPC, func() { def.GRPC = "" }},
		{TypeHTTP, func() { def.HTTP = "" }},
		{TypeTTL, func() { def.TTL = 0 }},
		{TypeTCP, func() { def.TCP = "" }},
		{TypeUDP, func() { def.UDP = "" }},
		{TypeAlias, func() { def.AliasService = "" }},
		{TypeDocker, func() { def.DockerContainerID = "" }},
		{TypeScript, func() { def.ScriptArgs = nil }},
		{TypeH2Ping, func() { def.H2PING = "" }},
		{TypeOSService, func() { def.OSService = "" }},
		{"", func() {}},
	} {
		if got := Type(&def); got != step.want {
			t.Errorf("%q, want %q", got, step.want)
		}
		step.then()
	}
}

func TestSupported(t *testing.T) {
	for def, want := range map[*api.CheckDefinition]string{
		{TTL: minute}:     "",
		{OSService: "x"}:  "not implemented",
		{GRPC: "x:1"}:     "grpc checks are not implemented: use script, http, tcp, udp, ttl or alias",
		{H2PING: "x:1"}:   "h2ping checks are not implemented: use script, http, tcp, udp, ttl or alias",
		{AliasNode: "n1"}: "",
	} {
		got := ""
		if err := Supported(def); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", def, got, want)
		}
	}
}

func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		name    string
		def     api.CheckDefinition
		results string // p, w, c: what the probe finds
		want    string // what is applied; - is nothing
	}{
		{"none", api.CheckDefinition{}, "pcwpc", "pcwpc"},
		{"first result counts", api.CheckDefinition{SuccessBeforePassing: 3, FailuresBeforeCritical: 3}, "p", "p"},
		{"first failure counts", api.CheckDefinition{SuccessBeforePassing: 3, FailuresBeforeCritical: 3}, "c", "c"},
		{"passing", api.CheckDefinition{SuccessBeforePassing: 3}, "cppwp", "c--wp"},
		{"a failure between", api.CheckDefinition{SuccessBeforePassing: 2}, "cpcpp", "c-c-p"},
		{"critical", api.CheckDefinition{FailuresBeforeCritical: 3}, "pccpccc", "p--p--c"},
		{"warning before critical", api.CheckDefinition{FailuresBeforeWarning: 2, FailuresBeforeCritical: 4}, "pcccccp", "p-wwccp"},
	} {
		count := newCounter(&c.def)
		got := ""
		for _, r := range c.results {
			status := map[rune]string{'p': api.HealthPassing, 'w': api.HealthWarning, 'c': api.HealthCritical}[r]
			if s, ok := count.apply(status); ok {
				got += s[:1]
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s became %s, want %s", c.name, c.results, got, c.want)
		}
	}
}

// slowProbe takes its time and notes when it ran.
type slowProbe struct {
	takes time.Duration
	runs  []time.Time
}

func (p *slowProbe) run(context.Context) (string, string) {
	p.runs = append(p.runs, time.Now())
	time.Sleep(p.takes)
	return api.HealthPassing, fmt.Sprint(len(p.runs))
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		slow := &slowProbe{takes: 4 * time.Second}
		reports := 0
		p := &poller{probe: slow, interval: 10 * time.Second, report: func(string, string) { reports++ }}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if first := slow.runs[0].Sub(start); first >= 10*time.Second {
			t.Errorf("first run after %v", first)
		}
		for i := 1; i < len(slow.runs); i++ {
			if gap := slow.runs[i].Sub(slow.runs[i-1]); gap != 14*time.Second {
				t.Errorf("run %d began %v after the one before, want the interval after its end", i, gap)
			}
		}
		if reports < 20 {
			t.Errorf("%d reports", reports)
		}
	})
}

func TestShortIntervalIsASecond(t *testing.T) {
	c := New(&api.CheckDefinition{TCP: "x:1", Interval: 1}, Options{}, nil)
	if got := c.(*poller).interval; got != time.Second {
		t.Errorf("interval %v", got)
	}
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := make(chan string, 8)
		c := New(&api.CheckDefinition{TTL: api.Duration(10 * time.Second)}, Options{OutputMax: api.MaxCheckOutput}, func(status, output string) {
			reports <- status + " " + output
		}).(*TTL)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		at := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if len(reports) != want {
				t.Fatalf("%d reports, want %d", len(reports), want)
			}
		}
		at(9*time.Second, 0)
		at(time.Second, 1)
		at(time.Hour, 1) // once
		_, expires := c.Set("fine")
		if left := time.Until(expires); left != 10*time.Second {
			t.Errorf("expires in %v", left)
		}
		at(6*time.Second, 1)
		c.Restart()
		at(6*time.Second, 1)
		if c.Expired() {
			t.Error("expired early")
		}
		at(4*time.Second, 2)
		if !c.Expired() {
			t.Error("not expired")
		}
		c.Resume("old", time.Now().Add(time.Second))
		at(time.Second, 3)
		const follows = "critical TTL expired (last output before timeout follows): "
		for _, want := range []string{"critical TTL expired", follows + "fine", follows + "old"} {
			if got := <-reports; got != want {
				t.Errorf("report %q, want %q", got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fakeAliased answers from a list of states, then blocks.
type fakeAliased struct{ states []any }

func (f *fakeAliased) AliasedChecks(ctx context.Context, _ AliasTarget, since uint64, _ time.Duration) (AliasState, error) {
	if len(f.states) == 0 {
		<-ctx.Done()
		return AliasState{}, ctx.Err()
	}
	next := f.states[0]
	f.states = f.states[1:]
	if err, ok := next.(error); ok {
		return AliasState{}, err
	}
	state := next.(AliasState)
	state.Index = since + 1
	return state, nil
}

func TestAlias(t *testing.T) {
	hc := func(status string) *api.HealthCheck {
		return &api.HealthCheck{Name: "c-" + status, Status: status, Output: "out"}
	}
	found := func(checks ...*api.HealthCheck) AliasState { return AliasState{Found: true, Checks: checks} }
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeAliased{states: []any{
			AliasState{},
			found(),
			found(hc("passing")),
			fmt.Errorf("no leader"),
			found(hc("passing"), hc("warning"), hc("passing")),
			found(hc("warning"), hc("critical"), hc("warning")),
		}}
		want := []string{
			"critical Service web could not be found on node n2",
			"passing No checks found.",
			"passing All checks passing.",
			`warning Aliased check "c-warning" failing: out`,
			`critical Aliased check "c-critical" failing: out`,
		}
		var got []string
		c := New(&api.CheckDefinition{AliasNode: "n2", AliasService: "web"}, Options{OutputMax: api.MaxCheckOutput, Aliased: fake, Logger: logx.Discard()},
			func(status, output string) { got = append(got, status+" "+output) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("reports %q", got)
		}
	})
}
