package exec

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

// stage is a leader with the real state and relay, and one node that runs jobs.
type stage struct {
	t *testing.T

	mu      sync.Mutex
	store   *state.Store
	index   uint64
	changed chan struct{}
	relay   *Relay
	refuse  int // so many of the next requests fail

	server *httptest.Server
	dir    string
	policy Policy
	runner *Runner
	stop   func()
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, store: state.New(), index: 9, changed: make(chan struct{}), relay: NewRelay(), dir: t.TempDir(), policy: Policy{Enabled: true, Node: "n"}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	s.begin()
	t.Cleanup(func() { s.stop() })
	return s
}

// begin starts the node's runner.
func (s *stage) begin() {
	s.t.Helper()
	c, err := client.New(client.Config{Address: s.server.URL})
	if err != nil {
		s.t.Fatal(err)
	}
	s.runner = New(Config{Node: "n", DataDir: s.dir, Client: c, Policy: s.policy, Logger: logx.Discard()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.runner.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		c.CloseIdle()
	})
}

func (s *stage) apply(cmd state.Command) any {
	data, err := state.Encode(cmd, time.Now(), state.Level)
	if err != nil {
		s.t.Error(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	results, _ := s.store.ApplyBatch([]state.Entry{{Index: s.index, Data: data}})
	close(s.changed)
	s.changed = make(chan struct{})
	return results[0]
}

// calls waits until there is something else than at an index.
func (s *stage) calls(ctx context.Context, index uint64) ([]api.ExecCall, uint64) {
	for {
		s.mu.Lock()
		calls, meta := s.store.Snapshot().JobCalls("n")
		changed := s.changed
		s.mu.Unlock()
		if meta.Index > index {
			return calls, meta.Index
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return calls, meta.Index
		}
	}
}

// ServeHTTP answers what a node asks the leader.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	refused := s.refuse > 0
	if refused {
		s.refuse--
	}
	relay := s.relay
	s.mu.Unlock()
	if refused {
		http.Error(w, api.TextNoLeader, http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the node is gone
	}
	q := r.URL.Query()
	read := func(v any) {
		if err := json.Unmarshal(body, v); err != nil {
			s.t.Error(err)
		}
	}
	var out any
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, CallsPath):
		index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
		calls, at := s.calls(r.Context(), index)
		w.Header().Set(api.HeaderIndex, strconv.FormatUint(at, 10))
		out = calls
	case strings.HasPrefix(path, ClaimPath):
		out = s.apply(&state.JobClaim{Job: q.Get("job"), Node: "n", Claim: q.Get("claim")})
	case path == ReportPath:
		var results []api.ExecResult
		read(&results)
		out = s.apply(&state.JobReport{Results: results})
	case strings.HasPrefix(path, OutputPath):
		var in Pushed
		read(&in)
		seq, _ := strconv.ParseUint(q.Get("seq"), 10, 64)
		out = Next{relay.Push(r.Context(), q.Get("job"), "n", seq, in.Chunks)}
	case strings.HasPrefix(path, WantedPath):
		var in Wanted
		read(&in)
		out = Wanted{relay.Wanted(r.Context(), "n", in.Jobs)}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		return // likewise
	}
}

// order begins a job at the node.
func (s *stage) order(change ...func(*api.ExecOrder)) (id string) {
	s.t.Helper()
	id = uuid.NewString()
	r := request(s.t, append([]func(*api.ExecOrder){func(o *api.ExecOrder) {
		o.ID, o.Targets, o.Wait = id, []string{"n"}, api.Duration(time.Minute)
	}}, change...)...)
	if err, failed := s.apply(&state.JobCreate{Request: r}).(error); failed {
		s.t.Fatal(err)
	}
	return id
}

func shell(script string) func(*api.ExecOrder) {
	return func(o *api.ExecOrder) { o.Command, o.Shell = []string{script}, true }
}

// await waits until the job's target is in a state.
func (s *stage) await(id string, in ...string) api.ExecTarget {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for {
		s.mu.Lock()
		j, _ := s.store.Snapshot().Job(id)
		changed := s.changed
		s.mu.Unlock()
		for _, want := range in {
			if j != nil && j.Targets[0].State == want {
				return j.Targets[0]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("waited in vain for %q: %+v", in, j)
		}
	}
}

// output reads so much of what a job writes.
func (s *stage) output(id string, chunks uint64) string {
	s.t.Helper()
	s.mu.Lock()
	relay := s.relay
	s.mu.Unlock()
	reader := relay.Read(id, map[string]uint64{"n": 0})
	defer reader.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var text strings.Builder
	for n := uint64(0); n < chunks; {
		news, err := reader.Next(ctx, time.Minute)
		if err != nil {
			s.t.Fatalf("after %d of %d chunks, %q: %v", n, chunks, text.String(), err)
		}
		for _, out := range news {
			for _, c := range out.Chunks {
				fmt.Fprintf(&text, "%d:%s", c.Stream, c.Data)
				n++
			}
		}
	}
	return text.String()
}

func TestRunsSayHowTheyEnded(t *testing.T) {
	s := newStage(t)
	for name, tc := range map[string]struct {
		order  func(*api.ExecOrder)
		state  string
		code   int
		output string
		says   string // part of the error
	}{
		"success":     {shell("echo out; exit 0"), api.ExecOK, 0, "1:out\n", ""},
		"a code":      {shell("echo err >&2; exit 7"), api.ExecFailed, 7, "2:err\n", ""},
		"a signal":    {shell("kill -9 $$"), api.ExecFailed, 128 + 9, "", ""},
		"no command":  {func(o *api.ExecOrder) { o.Command = []string{"/does/not/exist"} }, api.ExecFailed, 127, "", "/does/not/exist"},
		"environment": {shell(`echo "$MUSTER_EXEC_NODE"`), api.ExecOK, 0, "1:n\n", ""},
		"a script": {func(o *api.ExecOrder) {
			o.Command, o.Script, o.Args = nil, []byte("echo \"$1 of $#\"\n"), []string{"a b", "c"}
		}, api.ExecOK, 0, "1:a b of 2\n", ""},
		"a script of another language": {func(o *api.ExecOrder) {
			o.Command, o.Script = nil, []byte("#!/bin/cat\nkept\n")
		}, api.ExecOK, 0, "1:#!/bin/cat\nkept\n", ""},
		"its time is over": {func(o *api.ExecOrder) {
			shell("echo began; sleep 600")(o)
			o.Timeout = api.Duration(300 * time.Millisecond)
		}, api.ExecTimeout, 128 + 15, "1:began\n", ""},
	} {
		outer := s.t
		t.Run(name, func(t *testing.T) {
			defer func() { s.t = outer }()
			s.t = t
			id := s.order(tc.order)
			got := s.await(id, api.ExecOK, api.ExecFailed, api.ExecTimeout, api.ExecRefused, api.ExecLost)
			if got.State != tc.state || got.Code != tc.code || !strings.Contains(got.Error, tc.says) || tc.says == "" && got.Error != "" {
				t.Errorf("ended as %+v, want %s with code %d", got, tc.state, tc.code)
			}
			if text := s.output(id, got.Chunks); text != tc.output {
				t.Errorf("wrote %q, want %q", text, tc.output)
			}
		})
	}
}

// What is told to stop is killed with all it has begun, and what was not begun never
// is.
func TestRunsAreStopped(t *testing.T) {
	s := newStage(t)
	id := s.order(shell("echo began; sleep 600 & wait"))
	s.await(id, api.ExecRunning)
	s.output(id, 1)
	if s.apply(&state.JobStop{Job: id}) != true {
		t.Fatal("there is no such job")
	}
	if got := s.await(id, api.ExecStopped); got.Code != 128+15 {
		t.Errorf("stopped as %+v", got)
	}
	s.stop()
	if len(s.runner.runs) > 0 {
		t.Errorf("%d runs are left", len(s.runner.runs))
	}
}

func TestRefusedRunsSayWhy(t *testing.T) {
	s := newStage(t)
	s.runner.SetPolicy(Policy{})
	if got := s.await(s.order(shell("exit 0")), api.ExecRefused); !strings.Contains(got.Error, "enable_remote_exec") {
		t.Errorf("refused with %+v", got)
	}
}

// A leader that cannot answer is asked again: for calls, claims and reports.
func TestRunsOutliveLeadersThatFail(t *testing.T) {
	s := newStage(t)
	for refuse := range 6 {
		s.mu.Lock()
		s.refuse = refuse
		s.mu.Unlock()
		if got := s.await(s.order(shell("exit 3")), api.ExecFailed, api.ExecOK); got.Code != 3 {
			t.Errorf("with %d requests refused: %+v", refuse, got)
		}
	}
}

// An agent that is restarted does not run anything twice: what it ran is lost, and it
// says so; what it had not claimed it runs.
func TestRestartedAgentRunsNothingTwice(t *testing.T) {
	s := newStage(t)
	// The leader takes no word of the agent that stops, as where that was killed.
	id := s.order(shell("echo began; sleep 600"))
	s.await(id, api.ExecRunning)
	s.output(id, 1)
	s.mu.Lock()
	s.refuse = 1 << 30
	s.mu.Unlock()
	s.stop()
	next := s.order(shell("echo next"))
	s.mu.Lock()
	s.refuse = 0
	s.mu.Unlock()
	s.begin()
	if got := s.await(id, api.ExecLost, api.ExecOK, api.ExecFailed); got.State != api.ExecLost || !strings.Contains(got.Error, "restarted") {
		t.Errorf("what ran before: %+v", got)
	}
	if got := s.await(next, api.ExecOK, api.ExecLost, api.ExecFailed); got.State != api.ExecOK {
		t.Errorf("what had not begun: %+v", got)
	}
}

// Who reads at another leader has all output from the beginning, also of a run that
// has ended: its node sends it again.
func TestOutputIsSentAgainToTheNextLeader(t *testing.T) {
	s := newStage(t)
	id := s.order(shell("for i in 1 2 3 4 5; do echo $i; done"))
	got := s.await(id, api.ExecOK)
	first := s.output(id, got.Chunks)
	s.mu.Lock()
	s.relay = NewRelay()
	s.mu.Unlock()
	s.server.CloseClientConnections() // the question to the former one ends
	if again := s.output(id, got.Chunks); again != first || !strings.Contains(again, "5") {
		t.Errorf("wrote %q, and to the next leader %q", first, again)
	}
}
