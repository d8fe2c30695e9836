package tmpl

import (
	"fmt"
	"strings"
	"time"
)

// Metrics is the status in Prometheus' text format.
func (s Status) Metrics() string {
	var b strings.Builder
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	family("muster_tmpl_complete", "gauge", "1 once every template has been rendered.")
	fmt.Fprintf(&b, "muster_tmpl_complete %d\n", oneIf(s.Complete))
	family("muster_tmpl_queries", "gauge", "Look-ups that are followed.")
	fmt.Fprintf(&b, "muster_tmpl_queries %d\n", s.Queries)
	family("muster_tmpl_queries_failing", "gauge", "Look-ups without an answer now.")
	fmt.Fprintf(&b, "muster_tmpl_queries_failing %d\n", len(s.Failing))

	each := func(name, kind, help string, value func(TemplateStatus) (float64, bool)) {
		family(name, kind, help)
		for _, t := range s.Templates {
			if v, ok := value(t); ok {
				fmt.Fprintf(&b, "%s{%s} %g\n", name, labels(t), v)
			}
		}
	}
	family("muster_tmpl_template_state", "gauge", "1 for the state that the template is in.")
	for _, t := range s.Templates {
		for _, state := range []string{StateWaiting, StateRendered, StatePending, StateRejected, StateFailed} {
			fmt.Fprintf(&b, "muster_tmpl_template_state{%s,state=%q} %d\n", labels(t), state, oneIf(t.State == state))
		}
	}
	each("muster_tmpl_template_renders_total", "counter", "How often the file was replaced.",
		func(t TemplateStatus) (float64, bool) { return float64(t.Renders), true })
	each("muster_tmpl_template_last_render_timestamp_seconds", "gauge", "When the template was last rendered, changed or not.",
		func(t TemplateStatus) (float64, bool) { return unix(t.LastRender) })
	each("muster_tmpl_template_last_change_timestamp_seconds", "gauge", "When the file was last replaced.",
		func(t TemplateStatus) (float64, bool) { return unix(t.LastChange) })
	each("muster_tmpl_template_last_error_timestamp_seconds", "gauge", "When the template last failed.",
		func(t TemplateStatus) (float64, bool) { return unix(t.LastErrorAt) })
	each("muster_tmpl_template_dependencies", "gauge", "Look-ups and files that the template depends on.",
		func(t TemplateStatus) (float64, bool) { return float64(t.Dependencies), true })
	each("muster_tmpl_template_data_age_seconds", "gauge", "How long ago the data of the template last changed.",
		func(t TemplateStatus) (float64, bool) { return t.Age, t.Age >= 0 })
	return b.String()
}

func labels(t TemplateStatus) string {
	return "source=" + quoteLabel(t.Source) + ",destination=" + quoteLabel(t.Destination)
}

// quoteLabel escapes what the format says, and nothing else.
func quoteLabel(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "?")) + `"`
}

func oneIf(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func unix(t *time.Time) (float64, bool) {
	if t == nil {
		return 0, false
	}
	return float64(t.UnixMilli()) / 1000, true
}
