package sdk

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

// seed registers three external nodes with two services; the checks of db's
// instances pass, warn and fail.
func seed(t *testing.T, c *api.Client) {
	t.Helper()
	for i, status := range []string{api.HealthPassing, api.HealthWarning, api.HealthCritical} {
		name := fmt.Sprintf("ext%d", i)
		_, err := c.Catalog().Register(&api.CatalogRegistration{
			Node: name, Address: fmt.Sprintf("10.9.0.%d", i),
			TaggedAddresses: map[string]string{"wan": fmt.Sprintf("198.51.100.%d", i)},
			NodeMeta:        map[string]string{"rack": fmt.Sprint(i % 2), "external": "yes"},
			Service: &api.AgentService{
				ID: "db-" + name, Service: "db", Port: 5432 + i, Tags: []string{"sql", name},
				Meta: map[string]string{"shard": fmt.Sprint(i)}, Weights: api.AgentWeights{Passing: 3, Warning: 1},
			},
			Checks: api.HealthChecks{
				{Node: name, CheckID: "alive", Name: "node alive", Status: api.HealthPassing},
				{Node: name, CheckID: "db", Name: "db answers", Status: status, ServiceID: "db-" + name, Output: "out " + name},
			},
		}, nil)
		must(t, err)
	}
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Node: "ext0", SkipNodeUpdate: true, Service: &api.AgentService{Service: "cache", Port: 11211},
	}, nil)
	must(t, err)
}

func TestCatalog(t *testing.T) {
	s, c := start(t, nil)
	cat := c.Catalog()
	seed(t, c)
	nodes := func(t *testing.T, q *api.QueryOptions) []string {
		t.Helper()
		all, meta, err := cat.Nodes(q)
		must(t, err)
		if meta.LastIndex == 0 || !meta.KnownLeader {
			t.Errorf("meta %+v", meta)
		}
		var out []string
		for _, n := range all {
			if n.Node != s.Config.NodeName {
				out = append(out, n.Node)
			}
		}
		return out
	}
	services := func(t *testing.T, tag string, q *api.QueryOptions) []string {
		t.Helper()
		all, _, err := cat.Service("db", tag, q)
		must(t, err)
		var out []string
		for _, n := range all {
			out = append(out, n.ServiceID)
		}
		return out
	}

	t.Run("datacenters", func(t *testing.T) {
		if dcs, err := cat.Datacenters(); err != nil || !slices.Equal(dcs, []string{"dc1"}) {
			t.Errorf("%q, %v", dcs, err)
		}
	})
	t.Run("nodes", func(t *testing.T) {
		for _, q := range []*api.QueryOptions{nil, {RequireConsistent: true}, {AllowStale: true}, {Near: "_agent"}, {Near: "ext1"}} {
			if got := nodes(t, q); !slices.Equal(got, []string{"ext0", "ext1", "ext2"}) {
				t.Errorf("%+v: %q", q, got)
			}
		}
		if got := nodes(t, &api.QueryOptions{NodeMeta: map[string]string{"rack": "0", "external": "yes"}}); !slices.Equal(got, []string{"ext0", "ext2"}) {
			t.Errorf("in rack 0: %q", got)
		}
		if got := nodes(t, &api.QueryOptions{Filter: `Meta.rack == "1" or TaggedAddresses.wan == "198.51.100.2"`}); !slices.Equal(got, []string{"ext1", "ext2"}) {
			t.Errorf("filtered: %q", got)
		}
		if _, _, err := cat.Nodes(&api.QueryOptions{Filter: `Nonsense == 1`}); err == nil || !strings.Contains(err.Error(), `Selector "Nonsense" is not valid`) {
			t.Errorf("a bad filter: %v", err)
		}
	})
	t.Run("services", func(t *testing.T) {
		all, _, err := cat.Services(nil)
		must(t, err)
		slices.Sort(all["db"])
		if _, ok := all["consul"]; !ok || !slices.Equal(all["db"], []string{"ext0", "ext1", "ext2", "sql"}) || all["cache"] == nil {
			t.Errorf("%v", all)
		}
		all, _, err = cat.Services(&api.QueryOptions{NodeMeta: map[string]string{"rack": "1"}})
		if err != nil || len(all) != 1 {
			t.Errorf("in rack 1: %v, %v", all, err)
		}
	})
	t.Run("service", func(t *testing.T) {
		if got := services(t, "", nil); !slices.Equal(got, []string{"db-ext0", "db-ext1", "db-ext2"}) {
			t.Errorf("%q", got)
		}
		if got := services(t, "ext1", nil); !slices.Equal(got, []string{"db-ext1"}) {
			t.Errorf("tagged: %q", got)
		}
		if got := services(t, "sql", &api.QueryOptions{Filter: `ServiceMeta.shard != "1" and ServicePort != 5432`}); !slices.Equal(got, []string{"db-ext2"}) {
			t.Errorf("filtered: %q", got)
		}
		all, _, err := cat.ServiceMultipleTags("db", []string{"sql", "ext2"}, nil)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		if n := all[0]; n.Address != "10.9.0.2" || n.ServicePort != 5434 || n.ServiceWeights.Passing != 3 || n.ServiceMeta["shard"] != "2" || n.NodeMeta["rack"] != "0" {
			t.Errorf("%+v", n)
		}
		if all, _, err := cat.Service("nothing", "", nil); err != nil || len(all) != 0 {
			t.Errorf("an unknown service: %+v, %v", all, err)
		}
	})
	t.Run("node", func(t *testing.T) {
		node, _, err := cat.Node("ext0", nil)
		if err != nil || node == nil || node.Node.TaggedAddresses["wan"] != "198.51.100.0" || len(node.Services) != 2 || node.Services["cache"].Port != 11211 {
			t.Errorf("%+v, %v", node, err)
		}
		list, _, err := cat.NodeServiceList("ext0", &api.QueryOptions{Filter: `Service == "db"`})
		if err != nil || len(list.Services) != 1 || list.Services[0].ID != "db-ext0" {
			t.Errorf("%+v, %v", list, err)
		}
		if node, _, err := cat.Node("nobody", nil); err != nil || node != nil {
			t.Errorf("an unknown node: %+v, %v", node, err)
		}
	})
	t.Run("blocking and deregister", func(t *testing.T) {
		_, meta, err := cat.Service("cache", "", nil)
		must(t, err)
		type answer struct {
			n   int
			err error
		}
		woke := make(chan answer, 1)
		go func() {
			all, _, err := cat.Service("cache", "", waiting(meta.LastIndex))
			woke <- answer{len(all), err}
		}()
		_, err = cat.Deregister(&api.CatalogDeregistration{Node: "ext2", ServiceID: "db-ext2"}, nil)
		must(t, err)
		_, err = cat.Deregister(&api.CatalogDeregistration{Node: "ext0", ServiceID: "cache"}, nil)
		must(t, err)
		if a := <-woke; a.err != nil || a.n != 0 {
			t.Errorf("woke with %d instances, %v", a.n, a.err)
		}
		_, err = cat.Deregister(&api.CatalogDeregistration{Node: "ext1", CheckID: "alive"}, nil)
		must(t, err)
		if checks, _, err := c.Health().Node("ext1", nil); err != nil || len(checks) != 1 {
			t.Errorf("checks of ext1: %v, %v", checks, err)
		}
		_, err = cat.Deregister(&api.CatalogDeregistration{Node: "ext2"}, nil)
		must(t, err)
		if got := nodes(t, nil); !slices.Equal(got, []string{"ext0", "ext1"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if _, err := cat.Register(&api.CatalogRegistration{Address: "10.0.0.1"}, nil); err == nil || !strings.Contains(err.Error(), "Must provide node") {
			t.Errorf("a registration without a node: %v", err)
		}
	})
}

func TestHealth(t *testing.T) {
	s, c := start(t, nil)
	h := c.Health()
	seed(t, c)

	t.Run("node", func(t *testing.T) {
		checks, meta, err := h.Node(s.Config.NodeName, nil)
		if err != nil || len(checks) != 1 || checks[0].CheckID != "serfHealth" || checks.AggregatedStatus() != api.HealthPassing || meta.LastIndex == 0 {
			t.Errorf("our own: %+v, %+v, %v", checks, meta, err)
		}
		checks, _, err = h.Node("ext2", nil)
		if err != nil || len(checks) != 2 || checks.AggregatedStatus() != api.HealthCritical {
			t.Errorf("ext2: %+v, %v", checks, err)
		}
		checks, _, err = h.Node("ext2", &api.QueryOptions{Filter: `CheckID == "db"`})
		if err != nil || len(checks) != 1 || checks[0].Output != "out ext2" || checks[0].ServiceName != "db" || checks[0].Status != "critical" {
			t.Errorf("filtered: %+v, %v", checks, err)
		}
	})
	t.Run("checks of a service", func(t *testing.T) {
		checks, _, err := h.Checks("db", &api.QueryOptions{NodeMeta: map[string]string{"rack": "0"}})
		if err != nil || len(checks) != 2 {
			t.Errorf("%+v, %v", checks, err)
		}
	})
	t.Run("state", func(t *testing.T) {
		for state, want := range map[string]int{api.HealthPassing: 5, api.HealthWarning: 1, api.HealthCritical: 1, api.HealthAny: 7} {
			checks, _, err := h.State(state, nil)
			if err != nil || len(checks) != want {
				t.Errorf("%s: %d checks, %v; want %d", state, len(checks), err, want)
			}
		}
	})
	t.Run("service", func(t *testing.T) {
		ids := func(tag string, passing bool, q *api.QueryOptions) []string {
			t.Helper()
			entries, _, err := h.Service("db", tag, passing, q)
			must(t, err)
			var out []string
			for _, e := range entries {
				out = append(out, e.Service.ID+" "+e.Checks.AggregatedStatus())
			}
			return out
		}
		if got := ids("", false, nil); !slices.Equal(got, []string{"db-ext0 passing", "db-ext1 warning", "db-ext2 critical"}) {
			t.Errorf("all: %q", got)
		}
		if got := ids("sql", true, &api.QueryOptions{RequireConsistent: true}); !slices.Equal(got, []string{"db-ext0 passing"}) {
			t.Errorf("passing: %q", got)
		}
		if got := ids("", false, &api.QueryOptions{Filter: `Checks.Status == "warning" and Node.Meta.rack == "1"`}); !slices.Equal(got, []string{"db-ext1 warning"}) {
			t.Errorf("filtered: %q", got)
		}
		if got := ids("ext2", false, &api.QueryOptions{AllowStale: true, Near: "_agent"}); !slices.Equal(got, []string{"db-ext2 critical"}) {
			t.Errorf("tagged: %q", got)
		}
	})
	t.Run("blocking", func(t *testing.T) {
		entries, meta, err := h.Service("db", "", true, nil)
		must(t, err)
		type answer struct {
			entries []*api.ServiceEntry
			err     error
		}
		woke := make(chan answer, 1)
		go func() {
			all, _, err := h.Service("db", "", true, waiting(meta.LastIndex))
			woke <- answer{all, err}
		}()
		check := *entries[0].Checks[1]
		if check.CheckID != "db" {
			check = *entries[0].Checks[0]
		}
		check.Status = api.HealthCritical
		_, err = c.Catalog().Register(&api.CatalogRegistration{Node: "ext0", SkipNodeUpdate: true, Check: &api.AgentCheck{
			Node: "ext0", CheckID: check.CheckID, Name: check.Name, Status: check.Status, ServiceID: check.ServiceID,
		}}, nil)
		must(t, err)
		if a := <-woke; a.err != nil || len(a.entries) != 0 {
			t.Errorf("woke with %+v, %v", a.entries, a.err)
		}
	})
}
