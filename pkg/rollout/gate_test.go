package rollout

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// What no check speaks for is not healthy, and is named.
func TestUnhealthy(t *testing.T) {
	checks := map[string]*api.HealthCheck{
		"service:web1": {ServiceID: "web1", Status: api.HealthPassing},
		"service:db1":  {ServiceID: "db1", Status: api.HealthCritical},
		"disk":         {Status: api.HealthPassing},
	}
	disk := map[string]*api.HealthCheck{"disk": {Status: api.HealthPassing}, "_node_maintenance": {Status: api.HealthPassing}}
	for _, tt := range []struct {
		about  subject
		checks map[string]*api.HealthCheck
		want   []string // parts; none: healthy
	}{
		{subject{services: []string{"web1"}}, checks, nil},
		{subject{services: []string{"db1", "web1"}}, checks, []string{"service:db1 is critical"}},
		{subject{services: []string{"wbe1"}}, checks, []string{`service "wbe1" has no check`}},
		{subject{services: []string{"web1", "gone", "db1"}}, checks, []string{`service "gone" has no check`, "service:db1 is critical"}},
		{subject{services: []string{"web1"}}, nil, []string{`service "web1" has no check`}},
		{subjectOf(checks), checks, []string{"service:db1 is critical"}},
		{subjectOf(checks), disk, []string{`service "db1" had a check before`, `service "web1" had a check before`}},
		{subjectOf(disk), disk, nil},
		{subjectOf(disk), nil, []string{`check "disk" was there before`}},
		{subjectOf(disk), checks, []string{"service:db1 is critical"}}, // what is new counts too
		{subjectOf(nil), nil, nil},
	} {
		got := tt.about.unhealthy(tt.checks)
		if (got == "") != (tt.want == nil) {
			t.Errorf("%+v of %d checks: %q", tt.about, len(tt.checks), got)
		}
		for _, part := range tt.want {
			if !strings.Contains(got, part) {
				t.Errorf("%+v: %q lacks %q", tt.about, got, part)
			}
		}
	}
}
