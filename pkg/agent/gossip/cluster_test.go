package gossip

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) count(text string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Count(h.text.String(), text)
}

// Pools of two clusters, each of a server and a client, stay two, whoever joins whom,
// and each says once why.
func TestClustersDoNotMerge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		logs := map[string]*heard{}
		add := func(n int, name, cluster string, server bool, join int) *node {
			logs[name] = &heard{}
			m := start(t, Config{
				NodeName: name, Server: server, ServerPort: 8300, Cluster: cluster, transport: network.attach(ipOf(n)),
				Logger: slog.New(slog.NewTextHandler(logs[name], nil)),
			})
			if join > 0 {
				if _, err := m.Join([]string{ipOf(join) + ":8301"}); err != nil {
					t.Fatal(err)
				}
			}
			return m
		}
		all := []*node{
			add(1, "s1", "one", true, 0), add(2, "c1", "", false, 1),
			add(3, "s2", "two", true, 0), add(4, "c2", "", false, 3),
		}
		time.Sleep(time.Second)
		for i, from := range all {
			for j := range all {
				if i/2 == j/2 {
					continue
				}
				for range 2 {
					if _, err := from.Join([]string{ipOf(j+1) + ":8301"}); err == nil || !strings.Contains(err.Error(), "-retry-join") {
						t.Errorf("%s joins %s: %v", from.cfg.NodeName, all[j].cfg.NodeName, err)
					}
				}
			}
		}
		time.Sleep(30 * time.Second)
		for i, n := range all {
			if got, want := n.Cluster(), []string{"one", "one", "two", "two"}[i]; n.NumNodes() != 2 || got != want {
				t.Errorf("%s sees %d members of cluster %q", n.cfg.NodeName, n.NumNodes(), got)
			}
			log := logs[n.cfg.NodeName]
			if said := log.count("refused a member"); said < 1 || said > 2 {
				t.Errorf("%s says %d times that it refused one", n.cfg.NodeName, said)
			}
			if log.count("Failed push/pull") > 0 {
				t.Errorf("%s lets the library say it again", n.cfg.NodeName)
			}
		}
		endAll(all)
	})
}

// A member that knows no cluster yet takes the first that it meets, and only that one.
func TestNewcomerIsOfOneCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		add := func(n int, name, cluster string, server bool) *node {
			return start(t, Config{NodeName: name, Server: server, ServerPort: 8300, Cluster: cluster, transport: network.attach(ipOf(n))})
		}
		for _, server := range []bool{true, false} {
			all := []*node{add(1, "s1", "one", true), add(2, "s2", "two", true), add(3, "new", "", server)}
			if _, err := all[2].Join([]string{ipOf(1) + ":8301"}); err != nil {
				t.Fatal(err)
			}
			if _, err := all[2].Join([]string{ipOf(2) + ":8301"}); !errors.Is(err, ErrForeign) && (err == nil || !isRefusal([]byte(err.Error()))) {
				t.Errorf("joined a second one: %v", err)
			}
			time.Sleep(10 * time.Second)
			if all[1].NumNodes() != 1 || all[0].NumNodes() != 2 || all[2].Cluster() != "one" {
				t.Errorf("%d members are in the second cluster, %d in the first, the newcomer is in %q", all[1].NumNodes(), all[0].NumNodes(), all[2].Cluster())
			}
			endAll(all)
			time.Sleep(time.Minute)
		}
	})
}

// Two that met before either had a cluster do not show each other any more once they
// found two.
func TestStrangersAreNotShown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		var all []*node
		for i, name := range []string{"s1", "s2"} {
			all = append(all, start(t, Config{NodeName: name, Server: true, ServerPort: 8300, transport: network.attach(ipOf(i + 1))}))
		}
		if _, err := all[1].Join([]string{ipOf(1) + ":8301"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := all[0].SetTag(TagCluster, "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s, _ := all[1].ServerByID("id-of-s1"); s.Cluster() != "one" || all[1].Cluster() != "one" {
			t.Errorf("s2 sees s1 in cluster %q", s.Cluster())
		}
		if err := all[1].SetTag(TagCluster, "two"); err != nil {
			t.Fatal(err)
		}
		if m, ok := all[1].Member("s1"); ok {
			t.Errorf("s2 still shows %v", m)
		}
		time.Sleep(10 * time.Second)
		if s, _ := all[0].ServerByID("id-of-s2"); s.Cluster() == "two" {
			t.Error("s1 has taken a member of another cluster in")
		}
		endAll(all)
	})
}

func TestCommonCluster(t *testing.T) {
	member := func(cluster string, status int) api.Member {
		return api.Member{Status: status, Tags: map[string]string{tagRole: roleServer, TagCluster: cluster}}
	}
	for _, tt := range []struct {
		want string
		list []api.Member
	}{
		{"", nil},
		{"", []api.Member{member("", api.MemberAlive), member("a", api.MemberLeft)}},
		{"a", []api.Member{member("a", api.MemberFailed)}},
		{"b", []api.Member{member("a", api.MemberFailed), member("a", api.MemberFailed), member("b", api.MemberAlive)}},
		{"", []api.Member{{Status: api.MemberAlive, Tags: map[string]string{tagRole: roleClient, TagCluster: "a"}}}},
	} {
		if got := commonCluster(tt.list); got != tt.want {
			t.Errorf("%v have %q, want %q", tt.list, got, tt.want)
		}
	}
}
