package tmpl

import (
	"strings"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		good := r.template("good", `{{ key "a" }}`)
		bad := r.template("bad", `{{ index (split "," (key "b")) 1 }}`)
		late := r.template("late", `{{ key "none" }}`)
		refused := r.template("refused", `{{ key "a" }}`)
		refused.Check = "false"
		r.consul.SetKey("a", "1")
		r.consul.SetKey("b", "x,y")
		r.start(Config{Templates: []Template{good, bad, late, refused}})
		r.rest()
		r.consul.SetKey("b", "x")
		r.rest()
		time.Sleep(10 * time.Second)

		s := r.tool.Status()
		if s.Complete || s.Queries != 3 || len(s.Failing) != 0 {
			t.Errorf("%+v", s)
		}
		for i, want := range []struct {
			state   string
			renders int
			cause   string
			err     string
		}{
			{StateRendered, 1, "/v1/kv/a", ""},
			{StateFailed, 1, "/v1/kv/b", "index out of range"},
			{StateWaiting, 0, "", ""},
			{StateRejected, 0, "", "check of"},
		} {
			got := s.Templates[i]
			if got.State != want.state || got.Renders != want.renders || strings.Join(got.Cause, " ") != want.cause ||
				!strings.Contains(got.LastError, want.err) || (got.LastError == "") != (want.err == "") ||
				(got.LastErrorAt != nil) != (want.err != "") || got.Dependencies != 1 || got.Age < 9 {
				t.Errorf("template %d: %+v\nwant %+v", i, got, want)
			}
		}
	})
}

// An outage is shown with what it keeps from being answered.
func TestStatusFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consul.SetKey("a", "1")
		r.start(Config{Templates: []Template{r.template("f", `{{ key "a" }}`)}})
		r.rest()
		r.consul.Fail(500)
		r.rest()
		s := r.tool.Status()
		if len(s.Failing) != 1 || s.Failing[0].Query != "/v1/kv/a" || !strings.Contains(s.Failing[0].Error, "No cluster leader") {
			t.Errorf("%+v", s.Failing)
		}
	})
}

// Names with anything in them stay one label.
func TestMetrics(t *testing.T) {
	at := time.Unix(1700000000, 500e6)
	s := Status{Complete: true, Queries: 2, Templates: []TemplateStatus{{
		Source: "a\"b\\c\nd", Destination: "e\xff", State: StateRendered, LastRender: &at, Renders: 3, Age: -1, Dependencies: 2,
	}}}
	text := s.Metrics()
	for _, want := range []string{
		"muster_tmpl_complete 1\n", "muster_tmpl_queries 2\n", "muster_tmpl_queries_failing 0\n",
		`muster_tmpl_template_renders_total{source="a\"b\\c\nd",destination="e?"} 3` + "\n",
		`destination="e?"} 1.7000000005e+09` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "age_seconds{") || strings.Contains(text, "last_error_timestamp_seconds{") {
		t.Errorf("times that never were:\n%s", text)
	}
}
