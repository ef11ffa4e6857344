package cluster

import (
	"slices"

	"relman/release"
)

// Entry is a value with the revisions that guards compare. The zero Entry is a
// key that does not exist.
type Entry[T any] struct {
	Value       T
	Mod, Create int64
}

// Exists reports whether the key exists.
func (e Entry[T]) Exists() bool { return e.Create != 0 }

// Claim is what one node says of one buffer.
type Claim struct {
	Node    release.NodeID
	Group   release.Group
	Buffer  int
	Release release.ID // "" when it holds nothing
}

// View is all that a decision about one site can rest on, read in one
// transaction at one revision.
type View struct {
	Site     release.Site
	Revision int64

	Active  Entry[Active]
	Rollout Entry[Rollout]
	Desired Entry[Desired]
	Policy  Entry[Policy]
	Freeze  Entry[Freeze]
	Roster  Entry[Roster]
	Seq     Entry[uint64]
	GC      Entry[GC]
	// Confirmed is the last epoch that an operator has confirmed.
	Confirmed Entry[uint64]
	Baked     Entry[uint64] // the last epoch that has baked for its time
	Told      Entry[uint64] // the last epoch of which the post-converge hook was told

	Releases map[release.ID]Entry[ReleaseRecord]
	Verdicts map[release.ID]Entry[string]
	Results  map[RequestID]Result
	Pins     map[release.ID]Entry[string] // why each is never swept
	Members  map[release.NodeID]Entry[Member]
	Cordons  map[release.NodeID]Entry[Cordon]
	Approved map[release.NodeID]bool
	Claims   []Claim // sorted by buffer, group, node

	// Nodes that name this site, or none, in their join.
	Joins  map[release.NodeID]Join
	Live   map[release.NodeID]Live
	Last   map[release.NodeID]Entry[Last] // of their sessions, also when they have ended
	Status map[release.NodeID]Status
}

// Done reports whether nothing that was asked for is still under way.
func (v *View) Done() bool {
	if !v.Desired.Exists() {
		return true
	}
	_, ok := v.Results[v.Desired.Value.Request]
	return ok
}

// Readiness says who holds a release in one buffer.
type Readiness struct {
	Buffer int
	Ready  []release.NodeID // claim the release in that buffer
	Late   []release.NodeID // claim something else there
}

// Ready counts the claims of one buffer. A member that has not entered yet has
// no claim and is in neither list: it cannot hold up a flip, and it enters with
// the active release only. One that has entered while the nodes had fewer buffers
// has no claim of a new one yet: it is late, where the compare of a flip would not
// see it.
func (v *View) Ready(buffer int, id release.ID) Readiness {
	r := Readiness{Buffer: buffer}
	claims := map[release.NodeID]bool{}
	for _, c := range v.Claims {
		if c.Buffer != buffer {
			continue
		}
		claims[c.Node] = true
		if c.Release == id {
			r.Ready = append(r.Ready, c.Node)
		} else {
			r.Late = append(r.Late, c.Node)
		}
	}
	for _, c := range v.Claims {
		if !claims[c.Node] {
			claims[c.Node] = true
			r.Late = append(r.Late, c.Node)
		}
	}
	return r
}

// Entered counts the members that have entered: those with claims.
func (v *View) Entered() int {
	nodes := map[release.NodeID]bool{}
	for _, c := range v.Claims {
		nodes[c.Node] = true
	}
	return len(nodes)
}

// Showing says which of the members that have entered show an epoch, or a
// later one, as far as they have said; each list is sorted.
type Showing struct {
	Done []release.NodeID
	Late []release.NodeID // live, and not there yet
	Dead []release.NodeID // without a live session
}

// Showing looks who shows an epoch.
func (v *View) Showing(epoch release.Epoch) Showing {
	var s Showing
	for _, n := range v.EnteredNodes() {
		_, live := v.Live[n]
		switch {
		case !live:
			s.Dead = append(s.Dead, n)
		case v.Status[n].Epoch < epoch:
			s.Late = append(s.Late, n)
		default:
			s.Done = append(s.Done, n)
		}
	}
	return s
}

// Converged reports whether every node that can show the epoch does, and there
// is one that can.
func (s Showing) Converged() bool {
	return len(s.Late) == 0 && (len(s.Done) > 0 || len(s.Dead) == 0)
}

// EnteredNodes are the members that have entered, sorted.
func (v *View) EnteredNodes() []release.NodeID {
	var nodes []release.NodeID
	for _, c := range v.Claims {
		nodes = append(nodes, c.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// HeldBy finds a buffer in which enough nodes hold the release and none lacks
// it: a flip to it needs no preparation. What was asked for last counts, if it is
// about this release.
func (v *View) HeldBy(id release.ID) (Readiness, bool) {
	d := v.Desired.Value
	if d.Release != id {
		d = Desired{}
	}
	for k := range v.Policy.Value.Buffers {
		if r := v.Ready(k, id); v.EnoughFor(r, d) {
			return r, true
		}
	}
	return Readiness{}, false
}

// BackBuffer is the buffer that a rollout may fill: none whose release the nodes
// must go on holding. It is -1 where they need all.
func (v *View) BackBuffer() int {
	var needed []Held
	if v.Active.Exists() {
		needed = v.Active.Value.Needed()
	}
	for k := range v.Policy.Value.Buffers {
		if !slices.ContainsFunc(needed, func(h Held) bool { return h.Buffer == k }) {
			return k
		}
	}
	return -1
}

// NodeView is what one node obeys for one site, read at one revision.
type NodeView struct {
	Site     release.Site
	Revision int64
	Active   Entry[Active]
	Rollout  Entry[Rollout]
	Member   Entry[Member] // the node's own
	Serving  Entry[Serving]
	Secret   Secret // nil where there is none
	Cluster  string // the name of the cluster, "" while it has none
	// ClaimMods are the revisions of the node's own claims, by buffer, as it read
	// or wrote them last; what is not in it is 0. Node fills it in.
	ClaimMods []int64
	// Turn is the revision of the node's turn, 0 for none. Node fills it in.
	Turn int64
}

// claimMod is the revision of the node's own claim.
func (v *NodeView) claimMod(buffer int) int64 {
	if buffer < len(v.ClaimMods) {
		return v.ClaimMods[buffer]
	}
	return 0
}
