package cluster

import (
	"fmt"
	"slices"
	"strings"

	"relman/release"
)

// OutAtOnce bounds the nodes that one transaction puts out.
const OutAtOnce = 25

// mostOps is how many operations etcd takes in a transaction.
const mostOps = 128

// OutBatch is the first part of the nodes that one Out can take: of each there
// is its member key and a claim per buffer.
func (v *View) OutBatch(nodes []release.NodeID) []release.NodeID {
	ops := 1 // the roster
	for i, n := range nodes {
		ops += 1 + len(v.claimsOf(n))
		if i == OutAtOnce || ops > mostOps {
			return nodes[:i]
		}
	}
	return nodes
}

func (v *View) claimsOf(n release.NodeID) []Claim {
	var own []Claim
	for _, c := range v.Claims {
		if c.Node == n {
			own = append(own, c)
		}
	}
	return own
}

// Drain is the first half of T9 for nodes that live: they still count, claim
// nothing any more, say at /readyz that they are not ready, and acknowledge it.
func Drain(f Fence, v *View, nodes []release.NodeID, why string) Txn {
	t := Txn{Name: fmt.Sprintf("drain %s of %s", names(nodes), v.Site), Guards: rosterGuards(f, v)}
	for _, n := range nodes {
		t.Guards = append(t.Guards, unchanged(MemberKey(v.Site, n), v.Members[n].Mod, ClassConflict))
		t.Ops = append(t.Ops, putBare(MemberKey(v.Site, n), string(MemberDrain)))
	}
	t.Ops = append(t.Ops, nextRoster(v, "drain "+names(nodes)+": "+why))
	return t.markLast()
}

// Out is T9: nodes do not count any more and have no claims. Whoever makes it
// has made sure that they take no traffic: one that drains has said so, or has
// had the time to; one that is in has not been live for longer than its fence,
// and is not now, nor was it since v was read. A node that is out already is put
// out again when a claim of it is left: a flip would wait for it.
func Out(f Fence, v *View, nodes []release.NodeID, why string) Txn {
	t := Txn{Name: fmt.Sprintf("put %s out of %s", names(nodes), v.Site), Guards: rosterGuards(f, v)}
	for _, n := range nodes {
		m := v.Members[n]
		t.Guards = append(t.Guards, unchanged(MemberKey(v.Site, n), m.Mod, ClassConflict))
		if m.Value != MemberDrain && m.Value != MemberOut {
			t.Guards = append(t.Guards,
				absent(LiveKey(n), ClassConflict),
				unchanged(LastKey(n), v.Last[n].Mod, ClassConflict))
		}
		t.Ops = append(t.Ops, putBare(MemberKey(v.Site, n), string(MemberOut)))
		for _, c := range v.claimsOf(n) {
			t.Ops = append(t.Ops, remove(ClaimKey(v.Site, c.Buffer, c.Group, n)))
		}
	}
	t.Ops = append(t.Ops, nextRoster(v, "out "+names(nodes)+": "+why))
	return t.markLast()
}

// rosterGuards are what every change of the roster rests on.
func rosterGuards(f Fence, v *View) []Guard {
	return []Guard{
		f.guard(),
		unchanged(RosterKey(v.Site), v.Roster.Mod, ClassRosterChanged),
		unchanged(ConfigKey(v.Site), v.Policy.Mod, ClassPolicyChanged),
	}
}

// nextRoster is the roster after v's. It is never the same twice.
func nextRoster(v *View, why string) Op {
	return put(RosterKey(v.Site), Roster{V: v.Roster.Value.V + 1, Why: why})
}

// names lists nodes, not too many of them.
func names(nodes []release.NodeID) string {
	const most = 5
	var all []string
	for _, n := range nodes[:min(len(nodes), most)] {
		all = append(all, string(n))
	}
	if more := len(nodes) - most; more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

// Thaw ends a freeze whose time is over, the very one that v shows. Until then
// it stands: no flip has to know the time.
func Thaw(f Fence, v *View) Txn {
	return Txn{
		Name: "end the freeze of " + string(v.Site),
		Guards: []Guard{
			f.guard(),
			unchanged(FreezeKey(v.Site), v.Freeze.Mod, ClassConflict),
		},
		Ops: []Op{remove(FreezeKey(v.Site))},
	}
}

// OutNodes are the members that do not count, or drain, sorted.
func (v *View) OutNodes() []release.NodeID {
	var nodes []release.NodeID
	for n, m := range v.Members {
		if m.Value != MemberIn {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	return nodes
}
