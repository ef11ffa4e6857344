package nodeagent

import (
	"slices"

	"relman/cluster"
	"relman/release"
)

// Standing is where a node stands on one site: all that its next step rests on.
type Standing struct {
	View  cluster.NodeView
	Group release.Group
	Trees []release.ID // what each tree holds, verified and whole; "": nothing

	Release release.ID    // applied last
	Epoch   release.Epoch // of that

	Shown    release.ID   // what visitors get
	Claims   []release.ID // in etcd, by buffer, as far as is known; as many as Trees at least
	Claiming bool         // etcd has claims of this node at all
	Known    bool         // nothing went wrong since the two were learned
}

// Deed is a kind of step.
type Deed string

// What a node does.
const (
	Rest  Deed = "rest"  // nothing, until something changes
	Learn Deed = "learn" // read the own claims
	Lower Deed = "lower" // take the claims of Buffers back (T11a)
	Fetch Deed = "fetch" // fill a tree with Release
	Enter Deed = "enter" // write Claims (T11)
	Claim Deed = "claim" // claim the rollout's release (T5)
)

// Move is the next step of a node.
type Move struct {
	Do      Deed
	Release release.ID
	Claims  []release.ID
	Buffers []int
	// Retract says that the claim of the rollout's buffer goes (T4) before a tree
	// is chosen for Release.
	Retract bool
}

// Obeys reports whether the node does what etcd says: an epoch never goes back.
func (s *Standing) Obeys() bool {
	a := cluster.Active{}
	if s.View.Active.Exists() {
		a = s.View.Active.Value
	}
	return refusal(state{Release: s.Release, Epoch: s.Epoch}, "", a) == nil
}

// Places is how many trees, and claims, the view asks for at least.
func (s *Standing) Places() (int, error) { return places(s.View) }

// Wanted is what the node is to show, "" for nothing, and whether it can.
func (s *Standing) Wanted() (id release.ID, held bool) {
	if !s.View.Active.Exists() {
		return "", false
	}
	id, _ = shownBy(s.Group, s.View.Active.Value)
	return id, s.holds(id)
}

func (s *Standing) holds(id release.ID) bool { return id != "" && slices.Contains(s.Trees, id) }

// Next says what the node does next: what a round of the agent would, with the same
// conditions in the same order, for simulations. It is for a node that obeys, has no
// program that looks at releases, and where nothing is suspect.
func Next(s *Standing) Move {
	v, in := s.View, s.View.Member.Value == cluster.MemberIn
	if counts := in || v.Member.Value == cluster.MemberDrain; counts && !s.Known {
		return Move{Do: Learn}
	}
	if lower := untrue(s.Claims, s.holds); in && len(lower) > 0 {
		return Move{Do: Lower, Buffers: lower}
	}
	if id := s.missing(); id != "" {
		return Move{Do: Fetch, Release: id}
	}
	if !in {
		return Move{Do: Rest}
	}
	if r := v.Rollout; r.Exists() && !s.Claiming && !s.holds(r.Value.Release) {
		return Move{Do: Fetch, Release: r.Value.Release}
	}
	if claims, differ := entering(v, s.Claims, s.Claiming, s.holds, anything); differ {
		return Move{Do: Enter, Claims: claims}
	}
	if unclaimed(v, s.Claims) {
		if id := v.Rollout.Value.Release; !s.holds(id) {
			return Move{Do: Fetch, Release: id, Retract: true}
		}
		return Move{Do: Claim}
	}
	return s.back()
}

func anything(release.ID) bool { return true }

// missing is the release that is to be shown and is not held: a canary first, where
// the node shows that.
func (s *Standing) missing() release.ID {
	if !s.View.Active.Exists() {
		return ""
	}
	a := s.View.Active.Value
	want := []release.ID{a.Release}
	if c := a.Canary; c != nil {
		want = append(want, c.Release)
		if id, _ := shownBy(s.Group, a); id == c.Release {
			slices.Reverse(want)
		}
	}
	for _, id := range want {
		if !s.holds(id) {
			return id
		}
	}
	return ""
}

// back gets the previous release back.
func (s *Standing) back() Move {
	p := s.View.Active.Value.Previous
	if s.View.Active.Exists() && p != nil && !s.holds(p.Release) {
		return Move{Do: Fetch, Release: p.Release}
	}
	return Move{Do: Rest}
}

// Room is the tree that a fetch fills, or the buffers whose claims have to be lowered
// before there is one; -1 and none: there is no room.
func (s *Standing) Room() (tree int, lower []int) {
	if i := choose(s.Trees, s.Shown, s.View, s.Claims); i >= 0 {
		return i, nil
	}
	return -1, stale(s.View, s.Claims)
}
