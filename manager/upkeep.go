package manager

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// thaw ends a freeze whose time is over.
type thaw struct{}

// thawed reports whether the freeze that stands has had its time. It is the
// leader's clock that says so; what keeps flips away is the freeze itself.
func thawed(v *cluster.View, now time.Time) bool {
	until := v.Freeze.Value.Until
	return v.Freeze.Exists() && !until.IsZero() && !now.Before(until)
}

// upkeep says who is to count and who is not, whatever is asked for; nil for
// nothing to do, until a time if there is one.
func upkeep(v *cluster.View, seen *attendance, now time.Time) (action, time.Time) {
	if nodes := strays(v); len(nodes) > 0 {
		return out{v.OutBatch(nodes), "it left a claim"}, time.Time{}
	}
	var times []time.Time
	next := cordon(v, seen, now, &times)
	if nodes := drained(v, seen, now, &times); len(nodes) > 0 {
		return out{v.OutBatch(nodes), whyOut(v, nodes[0])}, time.Time{}
	}
	if next != nil {
		return next, time.Time{}
	}
	nodes := slices.Concat(returned(v, seen, now, &times), applicants(v))
	if len(nodes) > 0 {
		return admit{nodes[:min(len(nodes), admitAtOnce)]}, time.Time{}
	}
	return nil, soonest(now, times...)
}

// strays are nodes that are out and have claims. None should: a flip would wait
// for them.
func strays(v *cluster.View) (nodes []release.NodeID) {
	for _, n := range v.EnteredNodes() {
		if v.Members[n].Value == cluster.MemberOut {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// drained are the nodes that drain and take no traffic any more: they have said
// so, or have had the time to.
func drained(v *cluster.View, seen *attendance, now time.Time, times *[]time.Time) (nodes []release.NodeID) {
	for _, n := range v.OutNodes() {
		m := v.Members[n]
		if m.Value != cluster.MemberDrain {
			continue
		}
		if at := seen.drainedAt(v, n); v.Status[n].Drained != m.Mod && now.Before(at) {
			*times = append(*times, at)
			continue
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// cordon carries out what operators want: nodes that live drain, those that do
// not are out after their fence. nil for nothing to do.
func cordon(v *cluster.View, seen *attendance, now time.Time, times *[]time.Time) action {
	for _, n := range sorted(v.Cordons) {
		if v.Members[n].Value != cluster.MemberIn {
			continue
		}
		why := whyOut(v, n)
		if _, live := v.Live[n]; live {
			return drain{[]release.NodeID{n}, why}
		}
		if at := seen.silentUntil(v, n); now.Before(at) {
			*times = append(*times, at)
			continue
		}
		return out{[]release.NodeID{n}, why}
	}
	return nil
}

// whyOut is why a node that drains is put out.
func whyOut(v *cluster.View, n release.NodeID) string {
	if c := v.Cordons[n]; c.Exists() {
		return fmt.Sprintf("cordoned by %s: %s", c.Value.By, c.Value.Reason)
	}
	return "drained"
}

// returned are the nodes that were put out because nobody waited for them and
// that are as good as any other now: they show what is active, and have kept their
// session for a while.
func returned(v *cluster.View, seen *attendance, now time.Time, times *[]time.Time) (nodes []release.NodeID) {
	for _, n := range v.OutNodes() {
		_, live := v.Live[n]
		_, joined := v.Joins[n]
		behind := v.Active.Exists() && !asFarAs(v, n, now)
		if v.Members[n].Value != cluster.MemberOut || v.Cordons[n].Exists() || !live || !joined || behind {
			continue
		}
		if at := seen.steadyAt(v, n); now.Before(at) {
			*times = append(*times, at)
			continue
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// asFarAs reports whether a node shows what is active or, while that is pending, what
// all others show.
func asFarAs(v *cluster.View, n release.NodeID, now time.Time) bool {
	a, epoch := v.Active.Value, v.Status[n].Epoch
	return epoch == a.Epoch || a.Pending(now) && epoch == a.Before
}

// applicants are the live nodes that asked to join and of which nothing was
// decided yet.
func applicants(v *cluster.View) (nodes []release.NodeID) {
	for _, n := range sorted(v.Joins) {
		_, live := v.Live[n]
		approved := v.Policy.Value.Admission != cluster.AdmitApproved || v.Approved[n]
		if live && approved && !v.Members[n].Exists() && !v.Cordons[n].Exists() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func sorted[T any](of map[release.NodeID]T) []release.NodeID {
	return slices.Sorted(maps.Keys(of))
}
