package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"relman/cluster/clustertest"
)

// TestHealth: what there is to be known of three members, of which one dies,
// and then another.
func TestHealth(t *testing.T) {
	t.Parallel()
	members, endpoints := three(t)
	c := dialAt(t, endpoints[0], func(c *Config) { c.Endpoints, c.Timeout = endpoints[:2], 2*time.Second })
	// what is so of the members that h lists
	count := func(h EtcdHealth, is func(EtcdMember) bool) (n int) {
		for _, m := range h.Members {
			if is(m) {
				n++
			}
		}
		return n
	}
	names := func(h EtcdHealth) (all []string) {
		for _, m := range h.Members {
			all = append(all, m.Name)
		}
		slices.Sort(all)
		return all
	}
	leads := func(m EtcdMember) bool { return m.Leads }
	well := func(m EtcdMember) bool {
		return m.Problem == "" && !m.Alone && !m.Learner && m.Hash != 0 && m.Version != "" && m.Size > 0 && m.Revision > 0 && len(m.Faults) == 0
	}
	h := c.Health(t.Context())
	if !slices.Equal(names(h), []string{"m0", "m1", "m2"}) || count(h, leads) != 1 || count(h, well) != 3 || h.Unlisted != "" || h.Uncompared != "" || len(h.Alarms) > 0 || len(h.Differ()) > 0 || !h.Answers() {
		t.Errorf("%+v", h)
	}

	if err := members[2].Close(); err != nil {
		t.Fatal(err)
	}
	away := func(m EtcdMember) bool { return m.Problem != "" && m.Name == "m2" && m.Endpoint == endpoints[2] }
	clustertest.Until(t, 30*time.Second, func() error {
		if h = c.Health(t.Context()); count(h, away) != 1 || count(h, well) != 2 || count(h, leads) != 1 || len(h.Members) != 3 {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})

	if err := members[1].Close(); err != nil {
		t.Fatal(err)
	}
	clustertest.Until(t, 30*time.Second, func() error {
		h = c.Health(t.Context())
		alone := count(h, func(m EtcdMember) bool { return m.Problem == "" && m.Alone })
		gone := count(h, func(m EtcdMember) bool { return m.Problem != "" && m.Endpoint == endpoints[1] })
		if alone != 1 || gone != 1 || h.Unlisted == "" || h.Answers() {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
}

// TestHealth_full: an alarm is seen, with who raised it; so is an address at
// which nobody answers.
func TestHealth_full(t *testing.T) {
	t.Parallel()
	m := clustertest.Own(t)
	c := dialAt(t, m.ClientURL(), func(c *Config) {
		c.Endpoints, c.Timeout = append(c.Endpoints, "http://127.0.0.1:1"), 2*time.Second
	})
	fill(t, dialAt(t, m.ClientURL(), nil))
	h := c.Health(t.Context())
	if len(h.Alarms) != 1 || h.Alarms[0].Kind != "NOSPACE" || h.Alarms[0].Member != h.Members[0].Name || h.Members[0].Name == "" {
		t.Errorf("%+v", h)
	}
	if len(h.Members) != 2 || h.Members[1].Problem == "" || h.Members[1].Endpoint != "http://127.0.0.1:1" {
		t.Errorf("%+v", h.Members)
	}
}

func TestHealth_differ(t *testing.T) {
	for _, c := range []struct {
		members []EtcdMember
		want    []string
	}{
		{[]EtcdMember{{Name: "a", Hash: 7}, {Name: "b", Hash: 7}, {Name: "c", Problem: "away"}}, nil},
		{[]EtcdMember{{Name: "a", Hash: 7}, {Name: "b", Hash: 8}, {Name: "c", Hash: 7}}, []string{"b"}},
		{[]EtcdMember{{Name: "a", Hash: 7, hashed: 3}, {Name: "b", Hash: 8, hashed: 4}}, nil},
		{[]EtcdMember{{Name: "a"}, {Name: "b", Hash: 8}}, nil},
	} {
		if got := (EtcdHealth{Members: c.members}).Differ(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.members, got, c.want)
		}
	}
}
