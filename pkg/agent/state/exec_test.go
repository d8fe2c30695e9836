package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

func newJob(id string, targets []string, change ...func(*api.ExecOrder)) *JobCreate {
	o := api.ExecOrder{ID: id, Command: []string{"true"}, Targets: targets, Wait: api.Duration(2 * time.Second), By: "me"}
	for _, c := range change {
		c(&o)
	}
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return &JobCreate{api.ExecRequest{Order: data}}
}

func ended(job, node, state string) *JobReport {
	return &JobReport{[]api.ExecResult{{Job: job, Node: node, Claim: node, State: state}}}
}

func claimed(job, node string) *JobClaim { return &JobClaim{job, node, node} }

func (l *lab) states(id string) string {
	l.t.Helper()
	j, _ := l.sn.Job(id)
	if j == nil {
		return "none"
	}
	var out []string
	for _, t := range j.Targets {
		out = append(out, t.State)
	}
	if !j.Ended.IsZero() {
		out = append(out, "end")
	}
	if j.Stopped != "" {
		out = append(out, j.Stopped)
	}
	return strings.Join(out, " ")
}

func (l *lab) want(id, want string) {
	l.t.Helper()
	if got := l.states(id); got != want {
		l.t.Fatalf("targets are %s, want %s", got, want)
	}
}

func TestJobRunsItsTargetsInOrder(t *testing.T) {
	l := newLab(t)
	l.must(newJob(uuid1, []string{"a", "b", "c"}, func(o *api.ExecOrder) { o.Parallel = 1 }))
	l.want(uuid1, "called waiting waiting")
	if ok, _ := l.do(claimed(uuid1, "b")); ok != false {
		t.Error("a target that waits can be claimed")
	}
	if ok, _ := l.do(claimed(uuid1, "A")); ok != true {
		t.Error("a target that is called cannot be claimed")
	}
	if ok, _ := l.do(&JobClaim{uuid1, "a", "other"}); ok != false {
		t.Error("a target can be claimed twice")
	}
	if ok, _ := l.do(claimed(uuid1, "A")); ok != true {
		t.Error("a claim cannot be repeated")
	}
	l.must(ended(uuid1, "a", api.ExecOK)) // of another claim: "A" has it
	l.want(uuid1, "running waiting waiting")
	l.must(ended(uuid1, "A", api.ExecOK))
	l.want(uuid1, "ok called waiting")
	l.must(ended(uuid1, "A", api.ExecFailed))
	l.want(uuid1, "ok called waiting")
	l.must(&JobReport{[]api.ExecResult{{Job: uuid1, Node: "b", State: api.ExecRefused, Error: "off"}}})
	l.want(uuid1, "ok refused called")
	l.must(claimed(uuid1, "c"))
	l.must(ended(uuid1, "c", api.ExecFailed))
	l.want(uuid1, "ok refused failed end")
}

func TestJobMaxFailBeginsNoMore(t *testing.T) {
	l := newLab(t)
	l.must(newJob(uuid1, []string{"a", "b", "c", "d"}, func(o *api.ExecOrder) { o.Parallel, o.MaxFail = 2, 1 }))
	l.must(claimed(uuid1, "a"))
	l.must(claimed(uuid1, "b"))
	l.must(ended(uuid1, "a", api.ExecTimeout))
	l.want(uuid1, "timeout running skipped skipped too many failures")
	if calls, _ := l.sn.JobCalls("B"); len(calls) != 1 || calls[0].Stop {
		t.Errorf("b is called %+v: what runs goes on", calls)
	}
	l.must(ended(uuid1, "b", api.ExecOK))
	l.want(uuid1, "timeout ok skipped skipped end too many failures")
}

func TestJobStop(t *testing.T) {
	l := newLab(t)
	l.must(newJob(uuid1, []string{"a", "b", "c"}, func(o *api.ExecOrder) { o.Parallel = 2 }))
	l.must(claimed(uuid1, "a"))
	touched := l.must(&JobStop{uuid1})
	l.want(uuid1, "running skipped skipped stopped")
	for _, node := range []string{"a", "b"} {
		if !slices.Contains(touched, Touch{topicCalls, node}) {
			t.Errorf("%s is not told", node)
		}
	}
	if calls, _ := l.sn.JobCalls("a"); len(calls) != 1 || !calls[0].Stop || calls[0].State != api.ExecRunning {
		t.Errorf("a is called %+v", calls)
	}
	if ok, _ := l.do(claimed(uuid1, "b")); ok != false {
		t.Error("a target of a stopped job can be claimed")
	}
	l.must(ended(uuid1, "a", api.ExecStopped))
	l.want(uuid1, "stopped skipped skipped end stopped")
	if ok, _ := l.do(&JobStop{uuid2}); ok != false {
		t.Error("a job that is not there can be stopped")
	}
}

// A node that was given up and comes back says what is true; nothing else may.
func TestJobLostAndFound(t *testing.T) {
	l := newLab(t)
	lost := func(node, from string) *JobReport {
		return &JobReport{[]api.ExecResult{{Job: uuid1, Node: node, From: from, State: api.ExecLost, Error: "gone"}}}
	}
	l.must(newJob(uuid1, []string{"a", "b"}))
	l.must(claimed(uuid1, "a"))
	l.must(lost("a", api.ExecCalled)) // it was claimed meanwhile
	l.want(uuid1, "running called")
	l.must(lost("a", api.ExecRunning))
	l.must(lost("b", api.ExecCalled))
	l.want(uuid1, "lost lost end")
	if ok, _ := l.do(claimed(uuid1, "b")); ok != false {
		t.Error("a lost target can be claimed")
	}
	l.must(ended(uuid1, "b", api.ExecOK)) // it never had the claim
	l.must(ended(uuid1, "a", api.ExecOK))
	l.want(uuid1, "ok lost end")
	l.must(lost("a", ""))
	l.want(uuid1, "ok lost end")
}

// A node that was given up while it ran its part is told of a stop once it is back,
// also when all the others have ended long ago; what did not run needs none.
func TestJobStopReachesTheLost(t *testing.T) {
	l := newLab(t)
	l.must(newJob(uuid1, []string{"a", "b", "c"}))
	l.must(claimed(uuid1, "a"))
	l.must(claimed(uuid1, "c"))
	l.must(&JobReport{[]api.ExecResult{{Job: uuid1, Node: "a", State: api.ExecLost}, {Job: uuid1, Node: "b", State: api.ExecLost}}})
	l.must(&JobReport{[]api.ExecResult{{Job: uuid1, Node: "c", Claim: "c", State: api.ExecLost, Error: "the agent was restarted"}}})
	l.want(uuid1, "lost lost lost end")
	calls := func(node string) []api.ExecCall {
		got, _ := l.sn.JobCalls(node)
		return got
	}
	if got := calls("a"); len(got) != 0 {
		t.Errorf("called before the stop: %+v", got)
	}
	if open, _ := l.sn.OpenTargets(); len(open) != 0 {
		t.Errorf("given up, and awaited: %+v", open)
	}
	touched := l.must(&JobStop{uuid1})
	if !slices.Contains(touched, Touch{topicCalls, "a"}) {
		t.Error("a is not woken")
	}
	if got := calls("a"); len(got) != 1 || !got[0].Stop || got[0].State != api.ExecLost {
		t.Errorf("a is called %+v", got)
	}
	if got := append(calls("b"), calls("c")...); len(got) != 0 {
		t.Errorf("those that run nothing are called %+v", got)
	}
	l.must(ended(uuid1, "a", api.ExecStopped))
	l.want(uuid1, "stopped lost lost end stopped")
	if got := calls("a"); len(got) != 0 {
		t.Errorf("a is called %+v", got)
	}
}

func TestJobCreateOnceAndBounded(t *testing.T) {
	l := newLab(t)
	c := newJob(uuid1, []string{"a"})
	l.must(c)
	l.must(c)
	if err, _ := l.do(newJob(uuid1, []string{"b"})); fmt.Sprint(err) != "there is another job "+uuid1 {
		t.Errorf("result is %v", err)
	}
	id := func(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }
	for n := range api.MaxExecJobs - 1 {
		l.must(newJob(id(n), []string{"a"}))
	}
	if err, _ := l.do(newJob(uuid2, []string{"a"})); !strings.Contains(fmt.Sprint(err), "512 jobs are open") {
		t.Errorf("result is %v", err)
	}
	l.must(&JobStop{id(7)})
	l.must(newJob(uuid2, []string{"a"}))
	l.want(id(7), "none")
	l.want(uuid2, "called")
}

func TestJobIsKeptForAnHour(t *testing.T) {
	l := newLab(t)
	l.must(newJob(uuid1, []string{"a"}))
	l.must(&JobStop{uuid1})
	if at := l.sn.NextJobReap(); !at.Equal(labTime.Add(time.Hour)) {
		t.Errorf("it is to be forgotten at %v", at)
	}
	for _, tc := range []struct {
		at   time.Duration
		want string
	}{{time.Hour - 1, "skipped end stopped"}, {time.Hour, "none"}} {
		data, err := Encode(&JobReap{}, labTime.Add(tc.at), Level)
		if err != nil {
			t.Fatal(err)
		}
		l.index++
		l.s.ApplyBatch([]Entry{{Index: l.index, Data: data}})
		l.sn = l.s.Snapshot()
		l.want(uuid1, tc.want)
	}
	var rows int
	for range scan[jobTarget](l.sn.read(), tableJobTargets, "id_prefix", nil) {
		rows++
	}
	if rows != 0 {
		t.Errorf("%d targets of no job are left", rows)
	}
}

func TestReadOrderRefuses(t *testing.T) {
	for want, change := range map[string]func(*api.ExecOrder){
		"no UUID":                func(o *api.ExecOrder) { o.ID = "x" },
		"one of Job":             func(o *api.ExecOrder) { o.Job = "x" },
		"one of Job, Command":    func(o *api.ExecOrder) { o.Command = nil },
		"has Args beside":        func(o *api.ExecOrder) { o.Args = []string{"x"} },
		"must be one string":     func(o *api.ExecOrder) { o.Shell, o.Command = true, []string{"a", "b"} },
		"0 targets":              func(o *api.ExecOrder) { o.Targets = nil },
		"a target twice":         func(o *api.ExecOrder) { o.Targets = []string{"a", "A"} },
		"one without a name":     func(o *api.ExecOrder) { o.Targets = []string{""} },
		"below zero":             func(o *api.ExecOrder) { o.Parallel = -1 },
		"no Wait":                func(o *api.ExecOrder) { o.Wait = 0 },
		"at most 524288 are all": func(o *api.ExecOrder) { o.Command, o.Script = nil, make([]byte, api.MaxExecOrder) },
	} {
		_, err := ReadOrder(newJob(uuid1, []string{"a"}, change).Request.Order)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	if _, err := ReadOrder([]byte(`{"Sudo":true}`)); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("error is %v", err)
	}
}

func TestExecCandidates(t *testing.T) {
	l := newLab(t)
	l.must(register("web-1", service("w1", "web", "blue"), check("serfHealth", "", "passing")))
	l.must(register("web-2", service("w2", "web", "green"), check("serfHealth", "", "critical")))
	l.must(register("db-1", service("web-db", "db")))
	match := regexp.MustCompile
	for want, f := range map[string]ExecFilter{
		"db-1 true, web-1 true, web-2 false": {},
		"web-1 true, web-2 false":            {Node: match("^web")},
		"web-1 true":                         {Service: match("^web$"), Tag: match("blue")},
		"db-1 true, web-2 false":             {Service: match("^(w2|web-db)$")},
		"":                                   {Service: match("db"), Tag: match("")},
	} {
		var got []string
		for _, c := range l.sn.ExecCandidates(f) {
			got = append(got, fmt.Sprint(c.Node, " ", c.Alive))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOpenTargetsKnowTheirNodes(t *testing.T) {
	l := newLab(t)
	l.must(register("a", nil, check("serfHealth", "", "passing")))
	l.must(newJob(uuid1, []string{"a", "b"}))
	open, meta := l.sn.OpenTargets()
	if len(open) != 2 || !open[0].Alive || open[1].Alive {
		t.Fatalf("open are %+v", open)
	}
	touched := l.must(register("a", nil, check("serfHealth", "", "critical")))
	if open, _ = l.sn.OpenTargets(); open[0].Alive || !anyWakes(meta, touched) {
		t.Errorf("open are %+v, woken %v", open, anyWakes(meta, touched))
	}
}

// genJobCommand makes commands over two jobs and three nodes.
func genJobCommand(t *rapid.T) Command {
	id, node := oneOf(t, "job", uuid1, uuid2), oneOf(t, "node", "a", "b", "c")
	switch rapid.IntRange(0, 9).Draw(t, "command") {
	case 0, 1:
		return newJob(id, []string{"a", "b", "c"}, func(o *api.ExecOrder) {
			o.Parallel = rapid.IntRange(0, 2).Draw(t, "parallel")
			o.MaxFail = rapid.IntRange(0, 2).Draw(t, "max fail")
		})
	case 2, 3, 4:
		return &JobClaim{id, node, oneOf(t, "claim", "1", "2")}
	case 5:
		return &JobStop{id}
	case 6:
		return &JobReport{[]api.ExecResult{{Job: id, Node: node, State: api.ExecLost, From: oneOf(t, "from", "", api.ExecCalled, api.ExecRunning)}}}
	}
	return &JobReport{[]api.ExecResult{{
		Job: id, Node: node, Claim: oneOf(t, "claim", "", "1", "2"),
		State: oneOf(t, "state", api.ExecOK, api.ExecFailed, api.ExecRefused, api.ExecRunning),
	}}}
}

// Random commands: what is counted is true, no more is open than may be, only what
// was lost changes once it has ended, a job is over exactly when all its targets
// are, and what an index says of a job changes with it. The same log gives the
// same bytes, through a snapshot too.
func TestJobsKeepTheirRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		var log []Entry
		before := map[string]api.ExecJob{}
		calls := map[string]view{}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			data, err := Encode(genJobCommand(t), labTime, Level)
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, Entry{Index: uint64(10 + i), Data: data})
			_, touched := s.ApplyBatch(log[i:])
			checkCalls(t, s, calls, touched)
			for _, id := range []string{uuid1, uuid2} {
				j, meta := s.Snapshot().Job(id)
				if j == nil {
					continue
				}
				old := before[id]
				checkJob(t, s, j, old)
				if asText(j) != asText(old) && (!slices.Contains(touched, Touch{topicJob, id}) || meta.Index != log[i].Index) {
					t.Fatalf("%s changes from %s to %s at %d, touched %v", id, asText(old), asText(j), meta.Index, touched)
				}
				before[id] = *j
			}
		}
		one := replay(t, 3, log, func() int { return 1 }, -1)
		cut := replay(t, 3, log, func() int { return 5 }, rapid.IntRange(0, len(log)).Draw(t, "restart"))
		if !bytes.Equal(one.bytes, cut.bytes) {
			t.Fatal("batches or a snapshot leave a trace")
		}
	})
}

// view is what somebody has who follows a node's calls.
type view struct {
	calls string
	meta  Meta
}

// checkCalls: who follows the calls of a node is woken by every change of them, and
// their index moves with it and never falls.
func checkCalls(t *rapid.T, s *Store, had map[string]view, touched []Touch) {
	for _, node := range []string{"a", "b", "c", "d"} {
		got, meta := s.Snapshot().JobCalls(node)
		now, old := view{asText(got), meta}, had[node]
		had[node] = now
		switch {
		case old.calls == "":
		case now.meta.Index < old.meta.Index:
			t.Fatalf("%s: the index falls from %d to %d", node, old.meta.Index, now.meta.Index)
		case now.calls != old.calls && (now.meta.Index == old.meta.Index || !anyWakes(old.meta, touched)):
			t.Fatalf("%s: %s becomes %s at %d, touched %v", node, old.calls, now.calls, now.meta.Index, touched)
		}
	}
}

// A call that is over goes from what its node follows: with the report of a node
// that was given up, and with the job itself.
func TestCallsThatAreOverGo(t *testing.T) {
	for name, over := range map[string]func(*lab) []Touch{
		"reported": func(l *lab) []Touch { return l.must(ended(uuid1, "a", api.ExecStopped)) },
		"forgotten": func(l *lab) []Touch {
			l.index++
			data, err := Encode(&JobReap{}, labTime.Add(2*api.ExecRetention), Level)
			if err != nil {
				t.Fatal(err)
			}
			_, touched := l.s.ApplyBatch([]Entry{{Index: l.index, Data: data}})
			l.sn = l.s.Snapshot()
			return touched
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.must(newJob(uuid1, []string{"a"}))
			l.must(claimed(uuid1, "a"))
			l.must(&JobReport{[]api.ExecResult{{Job: uuid1, Node: "a", State: api.ExecLost}}})
			l.must(&JobStop{uuid1})
			calls, before := l.sn.JobCalls("a")
			if len(calls) != 1 {
				t.Fatalf("before: %+v", calls)
			}
			touched := over(l)
			if calls, after := l.sn.JobCalls("a"); len(calls) != 0 || after.Index <= before.Index || !anyWakes(before, touched) {
				t.Errorf("after: %+v at %d, before it was %d; touched %v", calls, after.Index, before.Index, touched)
			}
		})
	}
}

func checkJob(t *rapid.T, s *Store, j *api.ExecJob, old api.ExecJob) {
	row := s.Snapshot().read().job(j.ID)
	open, waiting, bad := 0, 0, 0
	for i, target := range j.Targets {
		switch target.State {
		case api.ExecCalled, api.ExecRunning:
			open++
		case api.ExecWaiting:
			waiting++
		case api.ExecOK, api.ExecSkipped:
		default:
			bad++
		}
		if old.ID != "" && api.ExecFinal(old.Targets[i].State) && old.Targets[i] != target && old.Targets[i].State != api.ExecLost {
			t.Fatalf("%s becomes %s", old.Targets[i].State, target.State)
		}
	}
	switch {
	case open != row.Open || bad != row.Bad:
		t.Fatalf("%d open, %d bad, but counted are %d and %d: %s", open, bad, row.Open, row.Bad, asText(j))
	case row.Parallel > 0 && open > row.Parallel:
		t.Fatalf("%d are open, at most %d may be", open, row.Parallel)
	case j.Ended.IsZero() != (open+waiting > 0):
		t.Fatalf("ended at %v with %s", j.Ended, asText(j))
	}
}
