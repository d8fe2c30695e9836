package rexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is a Display that records its calls, in order.
type seen struct{ all []string }

func (s *seen) Began(id string, targets []string)   { s.add("began %v", targets) }
func (s *seen) Output(node string, _ int, d []byte) { s.add("%s wrote %s", node, d) }
func (s *seen) Target(t api.ExecTarget) {
	s.add("%s", strings.TrimSuffix(fmt.Sprintf("%s is %s %d %s", t.Node, t.State, t.Code, t.Error), " 0 "))
}
func (s *seen) Log(level slog.Level, text string) {
	if level >= slog.LevelWarn {
		s.add("log")
	}
}
func (s *seen) add(format string, a ...any) { s.all = append(s.all, fmt.Sprintf(format, a...)) }

func (s *seen) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.all, want) {
		t.Errorf("shown %q, want %q", s.all, want)
	}
}

// ask makes a client of an agent that answers by a function.
func ask(t *testing.T, answer http.HandlerFunc) *client.Client {
	t.Helper()
	agent := httptest.NewServer(answer)
	c, err := client.New(client.Config{Address: agent.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseIdle(); agent.Close() })
	return c
}

// A job is over only when its last output was shown, each chunk of it once, through
// streams that break, answers that fail and chunks that come twice.
func TestFollowShowsOutputBeforeTheEnd(t *testing.T) {
	var mu sync.Mutex
	streams, failures := 0, 2
	c := ask(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/v1/exec/job/") {
			if failures--; failures >= 0 {
				http.Error(w, api.TextNoLeader, http.StatusInternalServerError)
				return
			}
			w.Header().Set(api.HeaderIndex, "7")
			_ = json.NewEncoder(w).Encode(api.ExecJob{ID: "j", Ended: time.Now(), Targets: []api.ExecTarget{
				{Node: "a", State: api.ExecOK, Chunks: 3}, {Node: "b", State: api.ExecFailed, Code: 4},
			}})
			return
		}
		chunks := []api.ExecChunk{{Data: []byte("1")}, {Data: []byte("2")}}
		if streams++; streams > 1 {
			chunks = append(chunks, api.ExecChunk{Data: []byte("3")})
		}
		_ = json.NewEncoder(w).Encode(api.ExecOutput{Node: "a", Chunks: chunks}) // and the stream breaks
	})
	show := &seen{}
	result, err := Follow(t.Context(), c, "j", false, show)
	if err != nil || result.OK() || result.Total != 2 || result.States[api.ExecOK] != 1 || result.States[api.ExecFailed] != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	got := slices.DeleteFunc(show.all, func(s string) bool { return s == "log" || strings.HasPrefix(s, "b ") })
	if want := []string{"a wrote 1", "a wrote 2", "a wrote 3", "a is ok"}; !slices.Equal(got, want) {
		t.Errorf("shown %q, want %q", got, want)
	}
}

// Run stops its job at the end of the context, and returns after the job has ended.
func TestFollowStopsItsOwn(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("Ctrl-C")
	var mu sync.Mutex
	stopped := make(chan struct{})
	c := ask(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/exec/stop/"):
			mu.Lock()
			defer mu.Unlock()
			close(stopped)
		case strings.HasPrefix(r.URL.Path, "/v1/exec/output/"):
			_, _ = io.Copy(io.Discard, r.Body) // whose end is when a hang-up is noticed
			<-r.Context().Done()
		case r.URL.Query().Get("index") == "":
			cancel(cause)
			w.Header().Set(api.HeaderIndex, "1")
			_ = json.NewEncoder(w).Encode(api.ExecJob{ID: "j", Targets: []api.ExecTarget{{Node: "a", State: api.ExecRunning}}})
		default:
			select {
			case <-stopped:
			case <-r.Context().Done():
				return
			}
			w.Header().Set(api.HeaderIndex, "2")
			_ = json.NewEncoder(w).Encode(api.ExecJob{ID: "j", Ended: time.Now(), Stopped: "stopped", Targets: []api.ExecTarget{{Node: "a", State: api.ExecStopped}}})
		}
	})
	result, err := Follow(ctx, c, "j", true, &seen{})
	if !errors.Is(err, cause) || result.Stopped == "" || result.States[api.ExecStopped] != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// A request is retried while there is no leader; a permanent error is returned at once.
func TestPatiently(t *testing.T) {
	for _, tt := range []struct {
		err  error
		asks int
	}{
		{api.ErrNoLeader, 3},
		{api.AnswerError(500, []byte(api.TextNoDatacenter)), 1},
		{&api.StatusError{Code: 403}, 1},
		{errors.New("connection refused"), 1},
	} {
		asks := 0
		err := retryWithoutLeader(t.Context(), &seen{}, func() error {
			if asks++; asks == 3 {
				return nil
			}
			return tt.err
		})
		if asks != tt.asks || (err == nil) != (tt.asks == 3) {
			t.Errorf("%v: asked %d times, %v", tt.err, asks, err)
		}
	}
}

func TestOrderThatIsTooLarge(t *testing.T) {
	_, err := newRequest(api.ExecOrder{Script: make([]byte, api.MaxExecOrder)}, nil)
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("error %v", err)
	}
}

// At a Consul: output comes before the end whatever the order of the keys, a heartbeat
// is no output, names differ in case, and what is no number is no success.
func TestConsulKeys(t *testing.T) {
	values := map[string]string{
		"p/s/A/ack": "", "p/s/A/exit": "0", "p/s/A/out/00000": "", "p/s/A/out/00001": "hello",
		"p/s/b/exit": "3", "p/s/c/exit": "many", "p/s/stranger/exit": "0", "p/s/job": "{}",
	}
	c := ask(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
		_ = json.NewEncoder(w).Encode([]api.KVPair{{Key: key, Value: []byte(values[key])}})
	})
	show := &seen{}
	r := &consulRun{cfg: Config{Client: c, Prefix: "p", Display: show, Wait: time.Hour}, session: "s", targets: map[string]*consulTarget{}}
	for _, node := range []string{"a", "b", "c", "silent"} {
		r.order = append(r.order, node)
		r.targets[node] = &consulTarget{ExecTarget: api.ExecTarget{Node: node, State: api.ExecCalled}, read: map[string]bool{}}
	}
	if err := r.readKeys(t.Context(), []string{"p/s/A/ack", "p/s/A/exit", "p/s/A/out/00000", "p/s/A/out/00001", "p/s/job", "p/s/stranger/exit"}); err != nil {
		t.Fatal(err)
	}
	show.want(t, "a is running", "a wrote hello", "a is ok")
	show.all = nil
	for _, key := range []string{"p/s/b/exit", "p/s/c/exit"} {
		if err := r.readKeys(t.Context(), []string{key, "p/s/A/exit"}); err != nil {
			t.Fatal(err)
		}
	}
	show.want(t, "b is failed 3 ", `c is failed 1 its exit code is "many"`)
	r.targets["silent"].seen = time.Now().Add(-2 * time.Hour)
	r.expireTargets()
	if got := r.result(); got.OK() || got.Total != 4 || got.States[api.ExecLost] != 1 || r.open() {
		t.Errorf("%+v", got)
	}
}

// Lines are whole, streams stay apart, a line without its end is shown at the target's
// end, and the summary names what is not ok.
func TestText(t *testing.T) {
	var out, errs bytes.Buffer
	p := &Text{Out: &out, Err: &errs}
	p.Began("j", []string{"a", "bb"})
	p.Output("a", api.ExecStdout, []byte("one\ntw"))
	p.Output("a", api.ExecStderr, []byte("oops\n"))
	p.Output("a", api.ExecStdout, []byte("o"))
	p.Target(api.ExecTarget{Node: "a", State: api.ExecOK})
	p.Target(api.ExecTarget{Node: "bb", State: api.ExecRefused, Error: "off"})
	result := Result{Total: 2, States: map[string]int{api.ExecOK: 1, api.ExecRefused: 1}}
	p.End(result, time.Second)
	want := "    a: one\n    a: two\n==> a: finished with exit code 0\n==> bb: refused: off\n" +
		"refused  bb  off\n1 / 2 node(s) completed\n1 ok, 0 failed, 0 timeout, 0 lost, 1 refused\n"
	if out.String() != want || errs.String() != "    a: oops\n" {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	if result.OK() || (Result{}).OK() || !(Result{Total: 1, States: map[string]int{api.ExecOK: 1}}).OK() {
		t.Error("what is ok")
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := &JSONLines{Out: &out, Err: &out}
	p.Began("j", []string{"a"})
	p.Output("a", api.ExecStderr, []byte("x\n"))
	p.Target(api.ExecTarget{Node: "a", State: api.ExecFailed, Code: 4})
	p.End(Result{ID: "j", Total: 1, States: map[string]int{api.ExecFailed: 1}}, 0)
	var types []string
	for line := range strings.Lines(out.String()) {
		var v struct {
			Type, Stream string
			Code         int
			OK           bool
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		types = append(types, fmt.Sprintf("%s%s%d%v", v.Type, v.Stream, v.Code, v.OK))
	}
	if got := strings.Join(types, " "); got != "job0false outputstderr0false target4false end0false" {
		t.Error(got)
	}
}
