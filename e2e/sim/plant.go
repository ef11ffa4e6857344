package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"relman/cluster"
	"relman/nodeagent"
	"relman/release"
)

// mostSeeds is after how many runs a planted mistake counts as missed.
const mostSeeds = 10000

// plant looks for each planted mistake, and says which seed found it. The exit code
// is 1 when one was not found.
func plant(workers int) (code int) {
	all := planted()
	fmt.Printf("\n%d planted mistakes:\n", len(all))
	for i := range all {
		f, tried := hunt(&all[i], workers)
		if f == nil {
			fmt.Printf("%-50s NOT FOUND in %d seeds\n", all[i].name, tried)
			code = 1
			continue
		}
		fmt.Printf("%-50s seed %-5d %s\n", all[i].name, f.seed, f.why)
	}
	return code
}

// hunt is the first seed that finds a mistake, nil for none, and how many were tried
// at most.
func hunt(b *bug, workers int) (*found, int) {
	const batch = 64
	for from := b.from; from < b.from+mostSeeds; from += batch {
		_, bad := explore(from, batch, workers, b)
		if len(bad) > 0 {
			f := slices.MinFunc(bad, func(a, b found) int { return cmp.Compare(a.seed, b.seed) })
			return &f, int(from-b.from) + batch
		}
	}
	return nil, mostSeeds
}

// leaves leaves out the guards on some keys of transactions that are called so.
func leaves(names []string, keys ...string) func(cluster.Txn, cluster.Guard) bool {
	return func(t cluster.Txn, g cluster.Guard) bool {
		called := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(t.Name, n) })
		return called && slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(g.Key, k) })
	}
}

func planted() []bug {
	flip, node := []string{"flip "}, []string{"retract ", "claim ", "enter ", "lower "}
	active, rollout, desired, results := cluster.ActiveKey(site), cluster.RolloutKey(site), cluster.DesiredKey(site), cluster.ResultsPrefix(site)
	uploads := cluster.Prefix + "uploads/"
	return []bug{
		{name: "no fence", drops: func(_ cluster.Txn, g cluster.Guard) bool { return g.Class == cluster.ClassNotLeader }},
		{name: "claim before fsync", hasty: true},
		{name: "two-step flip", twice: true},
		{name: "stale watch acted on", drops: leaves(node, rollout, active, cluster.ReadyPrefix(site), cluster.Prefix+"nodes/")},
		{name: "sweep without the upload marker", lateGC: true, drops: leaves([]string{"begin a sweep", "register 0"}, uploads)},
		{name: "epoch reset obeyed", obeys: true},
		{name: "flip without the compare of all claims", rare: true, drops: leaves(flip, cluster.ReadyPrefix(site))},
		{name: "flip without the compare of active, rollout, request", drops: leaves(flip, active, rollout, desired, results)},
		{name: "flip without the compare of the freeze", rare: true, drops: leaves(flip, cluster.FreezeKey(site))},
		{name: "flip without the compare of the verdict", rare: true, drops: leaves(flip, cluster.VerdictsPrefix(site))},
		{name: "rollout into the previous release's buffer", changes: intoPrevious},
		{name: "out without the fence wait", rare: true, sees: withoutFence},
		{name: "a cut-off node stays ready", unfenced: true},
		{name: "content dropped before the claim", keeps: true},
		{name: "shown before it is verified", serves: true},
		{name: "no reads beside the watch", deaf: true},
		{name: "a claim of an earlier turn", rare: true, from: 28000, drops: func(_ cluster.Txn, g cluster.Guard) bool { return strings.Contains(g.Key, "/turn/") }},
		{name: "claims not lowered after a loss", moves: neverLowers},
		{name: "a sweep taken over at once", rare: true, hurries: true},
		{name: "deletions without a hold", rare: true, holdless: true},
		{name: "objects deleted before the record", objectsFirst: true},
		{name: "an older status put in place of a newer one", drops: leaves([]string{"write the status"}, cluster.Prefix+"nodes/")},
		{name: "revert without the compare of the confirmation", rare: true, drops: leaves([]string{"revert "}, cluster.ConfirmedKey(site))},
		{name: "a leader who does not hear what nodes find bad", sees: withoutTaste},
	}
}

// intoPrevious has rollouts fill the buffer of what was active before.
func intoPrevious(v *cluster.View, t cluster.Txn) cluster.Txn {
	p := v.Active.Value.Previous
	if p == nil || !strings.HasPrefix(t.Name, "start ") {
		return t
	}
	t.Ops = slices.Clone(t.Ops)
	for i, o := range t.Ops {
		if o.Key == cluster.RolloutKey(site) {
			r := value[cluster.Rollout](&pair{Pair: cluster.Pair{Value: o.Value}})
			r.Buffer = p.Buffer
			t.Ops[i].Value = encode(r)
			t.Mark = &t.Ops[i]
		}
	}
	return t
}

// withoutFence has the leader take nodes without a session for silent at once, and
// the guard of that it has no say in.
func withoutFence(v *cluster.View) *cluster.View {
	c := *v
	c.Policy.Value.FenceSeconds = 1
	c.Last = map[release.NodeID]cluster.Entry[cluster.Last]{}
	for n, l := range v.Last {
		l.Value.FenceMS = 0
		c.Last[n] = l
	}
	return &c
}

// withoutTaste has the leader not see what nodes say of what bakes.
func withoutTaste(v *cluster.View) *cluster.View {
	c := *v
	c.Status = map[release.NodeID]cluster.Status{}
	for n, s := range v.Status {
		s.Bake = nil
		c.Status[n] = s
	}
	return &c
}

// neverLowers skips what a node that has lost something has to do first.
func neverLowers(n *node, m nodeagent.Move) nodeagent.Move {
	if m.Do != nodeagent.Lower {
		return m
	}
	s := n.standing()
	for _, k := range m.Buffers {
		n.claims[k] = ""
	}
	s.Claims = n.claims
	return nodeagent.Next(s)
}
