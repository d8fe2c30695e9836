package api

import (
	"strings"
	"testing"
)

func TestWhyNoLeader(t *testing.T) {
	server := func(name string, status int, expect string) *Member {
		return &Member{Name: name, Status: status, Tags: map[string]string{"role": "consul", "expect": expect}}
	}
	client := &Member{Name: "c1", Status: MemberFailed, Tags: map[string]string{"role": "node"}}
	for name, c := range map[string]struct {
		members []*Member
		want    string
	}{
		"nobody":       {[]*Member{client}, "no server is known"},
		"two of three": {[]*Member{server("s3", MemberFailed, "3"), server("s1", MemberAlive, "3"), server("s2", MemberFailed, "3"), client}, "2 of 3 servers are failed (s2, s3): 2 are needed"},
		"who has left does not count": {[]*Member{server("s1", MemberAlive, "3"), server("s2", MemberFailed, "3"), server("s3", MemberLeft, "3")},
			"1 of 2 servers is failed (s2): 2 are needed"},
		"one alive of two":      {[]*Member{server("s1", MemberAlive, ""), server("s2", MemberFailed, "")}, "1 of 2 servers is failed (s2): 2 are needed"},
		"not founded":           {[]*Member{server("s1", MemberAlive, "3"), client}, "1 of 3 servers that found a cluster (bootstrap_expect) is there (s1)"},
		"a majority that votes": {[]*Member{server("s1", MemberAlive, "3"), server("s2", MemberAlive, "3"), server("s3", MemberFailed, "3")}, "2 of 3 servers are alive (s1, s2): they are electing"},
	} {
		if got := WhyNoLeader(c.members); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
