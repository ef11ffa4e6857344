package nodeagent

import (
	"fmt"
	"slices"

	"relman/cluster"
	"relman/release"
)

// A node's claims are a list of releases by protocol buffer, "" for none.

// places is how many protocol buffers a view speaks of.
func places(v cluster.NodeView) (int, error) {
	var named []int
	if a := v.Active; a.Exists() {
		for _, h := range a.Value.Needed() {
			named = append(named, h.Buffer)
		}
	}
	if v.Rollout.Exists() {
		named = append(named, v.Rollout.Value.Buffer)
	}
	n := 0
	for _, k := range named {
		if k < 0 || k >= cluster.MaxBuffers {
			return 0, fmt.Errorf("etcd names buffer %d, there can be %d", k, cluster.MaxBuffers)
		}
		n = max(n, k+1)
	}
	return n, nil
}

// due are the claims that the node should have: what it claims, and for the
// buffers that the view names their releases, all as far as it holds them.
func due(v cluster.NodeView, claims []release.ID, holds func(release.ID) bool) []release.ID {
	list := slices.Clone(claims)
	set := func(k int, id release.ID) { list[k] = id }
	if v.Rollout.Exists() {
		set(v.Rollout.Value.Buffer, v.Rollout.Value.Release)
	}
	if a := v.Active; a.Exists() {
		for _, h := range a.Value.Needed() {
			set(h.Buffer, h.Release)
		}
	}
	for k, id := range list {
		if id != "" && !holds(id) {
			list[k] = ""
		}
	}
	return list
}

// untrue are the buffers whose claims the disk cannot back.
func untrue(claims []release.ID, holds func(release.ID) bool) (buffers []int) {
	for k, id := range claims {
		if id != "" && !holds(id) {
			buffers = append(buffers, k)
		}
	}
	return buffers
}

// stale are the buffers whose claims a node that lacks the active release may
// give up to make room for it: those of no release that the nodes must go on holding.
func stale(v cluster.NodeView, claims []release.ID) (buffers []int) {
	for k, id := range claims {
		if id != "" && !needs(v, id) {
			buffers = append(buffers, k)
		}
	}
	return buffers
}

// needs reports whether a release is active, was before, or is a canary.
func needs(v cluster.NodeView, id release.ID) bool {
	return v.Active.Exists() && slices.ContainsFunc(v.Active.Value.Needed(), func(h cluster.Held) bool { return h.Release == id })
}

// pick chooses the buffer to fill, nil when every buffer is needed.
func pick(bufs []*buffer, shown release.ID, v cluster.NodeView, claims []release.ID) *buffer {
	var ids []release.ID
	for _, b := range bufs {
		ids = append(ids, b.id())
	}
	if i := choose(ids, shown, v, claims); i >= 0 {
		return bufs[i]
	}
	return nil
}

// choose is pick, by what the buffers hold: never the one that is shown, one
// that holds what is claimed, or the active release. Among the others it
// rather keeps what the node may need next, and rather redraws a tree than
// draws a new one. It is -1 when every buffer is needed.
func choose(trees []release.ID, shown release.ID, v cluster.NodeView, claims []release.ID) int {
	best, bestCost := -1, 0
	for i, id := range trees {
		a := v.Active.Value
		if id != "" && (id == shown || id == a.Release || slices.Contains(claims, id)) {
			continue
		}
		cost := 0
		switch {
		case id == "":
			cost = 1
		case a.Canary != nil && id == a.Canary.Release:
			cost = 4
		case a.Previous != nil && id == a.Previous.Release:
			cost = 3
		case v.Rollout.Exists() && id == v.Rollout.Value.Release:
			cost = 2
		}
		if best < 0 || cost < bestCost || cost == bestCost && id.Seq() > trees[best].Seq() {
			best, bestCost = i, cost
		}
	}
	return best
}

// entering are the claims that the node should have, and whether what it claims
// differs from that by more than the rollout's own claim, which is for prepare. may
// says what nothing keeps it from claiming: without that, a rollout's claim stays
// as it is.
func entering(v cluster.NodeView, claims []release.ID, claiming bool, holds, may func(release.ID) bool) ([]release.ID, bool) {
	wanted := v
	if r := v.Rollout; r.Exists() && !may(r.Value.Release) {
		wanted.Rollout = cluster.Entry[cluster.Rollout]{}
	}
	list := due(wanted, claims, holds)
	return list, !claiming || !slices.Equal(list, claims) && !onlyRollout(v, list, claims)
}

// unclaimed reports whether there is a rollout whose release the node does not
// claim.
func unclaimed(v cluster.NodeView, claims []release.ID) bool {
	r := v.Rollout
	return r.Exists() && claims[r.Value.Buffer] != r.Value.Release
}
