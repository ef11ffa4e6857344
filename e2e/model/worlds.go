package main

import (
	"fmt"

	"relman/cluster"
	"relman/release"
)

// setting is how a world begins.
type setting struct {
	policy   cluster.Policy
	nodes    int            // that are in, show release 1, and hold it in buffer 0
	releases int            // that are registered
	previous bool           // release 2 is active in buffer 1, and 1 was before
	claims   map[int]uint64 // of all nodes, further ones
	more     func(st *store, at int32, s *state) int32
}

func policy(change func(*cluster.Policy)) cluster.Policy {
	p := cluster.DefaultPolicy()
	p.Min, p.MostOutNodes = "1", "1"
	if change != nil {
		change(&p)
	}
	return p
}

func (g setting) begin(st *store) state {
	var s state
	at := int32(0)
	if g.policy.Min == "" {
		g.policy = policy(nil)
	}
	at = st.put(at, cluster.ConfigKey(www), g.policy)
	at = st.put(at, cluster.RosterKey(www), cluster.Roster{V: 1})
	at = st.put(at, cluster.SeqKey(www), fmt.Sprint(g.releases))
	at = st.put(at, electionKey(manager0), "m")
	for r := range uint64(g.releases) {
		at = st.put(at, cluster.ReleaseKey(www, rel(r+1)), cluster.ReleaseRecord{Created: noon, Request: cluster.RequestID(fmt.Sprint("P", r+1))})
	}
	active := cluster.Active{Release: rel(1), Epoch: 1, Request: "P1", Flip: "F-P1", Kind: cluster.Publish, At: noon}
	if g.previous {
		active = cluster.Active{Release: rel(2), Epoch: 2, Buffer: 1, Request: "P2", Flip: "F-P2", Kind: cluster.Publish, At: noon, Previous: &cluster.Held{Release: rel(1)}}
	}
	at = st.put(at, cluster.ActiveKey(www), active)
	for i := range g.nodes {
		at = g.node(st, at, &s, i, active)
	}
	if g.more != nil {
		at = g.more(st, at, &s)
	}
	s.etcd = at
	return s
}

func (g setting) node(st *store, at int32, s *state, i int, active cluster.Active) int32 {
	self := selfOf(i, 0)
	n := node{up: true, learnt: true, ready: true, shows: number(active.Release), epoch: int8(active.Epoch), free: 4}
	n.disk[0] = 1
	if g.previous {
		n.disk[1] = 2
	}
	for k, r := range g.claims {
		n.disk[k] = int8(r)
		n.free &^= 1 << k
	}
	s.nodes[i] = n
	at = st.put(at, cluster.LiveKey(self.Node), self.Live)
	at = st.put(at, cluster.LastKey(self.Node), cluster.Last{Boot: self.Live.Boot})
	at = st.put(at, cluster.JoinKey(self.Node), cluster.Join{Sites: []release.Site{}, Group: self.Group})
	at = st.put(at, cluster.MemberKey(www, self.Node), string(cluster.MemberIn))
	for k, r := range n.disk {
		value := cluster.NoClaim
		if r > 0 {
			value = string(rel(uint64(r)))
		} else {
			s.nodes[i].free |= 1 << k
		}
		at = st.put(at, cluster.ClaimKey(www, k, self.Group, self.Node), value)
	}
	return at
}
