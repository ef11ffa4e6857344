package nodeagent

import (
	"slices"
	"time"

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
	Unshown  bool         // the node holds what it is to show, and does not show it
	Claims   []release.ID // in etcd, by buffer, as far as is known; as many as Trees at least
	Claiming bool         // etcd has claims of this node at all
	Known    bool         // nothing went wrong since the two were learned

	// May says that the operator's program lets a release pass; nil: there is none.
	May func(release.ID) bool
}

// Deed is a kind of step.
type Deed string

// What a node does.
const (
	Rest  Deed = "rest"  // nothing, until something changes
	Learn Deed = "learn" // read the own claims
	Lower Deed = "lower" // take the claims of Buffers back (T11a)
	Fetch Deed = "fetch" // fill a tree with Release
	Show  Deed = "show"  // swap
	Vet   Deed = "vet"   // have the operator's program look at Release
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
	// Entered says that the node claims all that it should, but for what is rolled
	// out: it counts.
	Entered bool
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

// Due is what the node is to show, "" for nothing, with the release and the epoch that
// it goes by then: now is the time by its clock, which is known to be wrong by off.
// waits says that something later is active and not to be shown yet.
func (s *Standing) Due(now time.Time, off time.Duration) (shown, of release.ID, epoch release.Epoch, waits bool) {
	if !s.View.Active.Exists() {
		return "", "", 0, false
	}
	t, waits := dueOf(s.View.Active.Value, s.Group, s.Epoch, now, off)
	return t.shown, t.release, t.epoch, waits
}

func (s *Standing) holds(id release.ID) bool { return id != "" && slices.Contains(s.Trees, id) }

// Next says what a node does next that obeys and has nothing that is suspect. The
// order is the point: what is claimed and not there any more goes first of all, then
// the active release is shown, then the node counts, then it gets ready for the next
// release, and then for the way back.
func Next(s *Standing) Move {
	v, in := s.View, s.View.Member.Value == cluster.MemberIn
	if counts := in || v.Member.Value == cluster.MemberDrain; counts && !s.Known {
		return Move{Do: Learn}
	}
	// The claims of a node that drains go with it; until then what they stand for stays.
	if lower := untrue(s.Claims, s.holds); in && len(lower) > 0 {
		return Move{Do: Lower, Buffers: lower}
	}
	switch id := s.missing(); {
	case id != "":
		return Move{Do: Fetch, Release: id}
	case s.Unshown:
		return Move{Do: Show}
	case !in:
		return Move{Do: Rest}
	case !s.Claiming && v.Rollout.Exists():
		// A node that does not count yet never holds a rollout up.
		if m, ready := s.ready(v.Rollout.Value.Release); !ready {
			return m
		}
	}
	if claims, differ := entering(v, s.Claims, s.Claiming, s.holds, s.may); differ {
		return Move{Do: Enter, Claims: claims}
	}
	m := s.prepare()
	m.Entered = true
	return m
}

// prepare gets the node ready for the next release, and for the way back. A release
// that it holds anyway needs no fill.
func (s *Standing) prepare() Move {
	if unclaimed(s.View, s.Claims) {
		m, ready := s.ready(s.View.Rollout.Value.Release)
		if ready {
			return Move{Do: Claim}
		}
		m.Retract = m.Do == Fetch
		return m
	}
	p := s.View.Active.Value.Previous
	if s.View.Active.Exists() && p != nil && !s.holds(p.Release) {
		return Move{Do: Fetch, Release: p.Release}
	}
	return Move{Do: Rest}
}

// ready reports whether a release is held and has passed, and what is to be done
// until then.
func (s *Standing) ready(id release.ID) (Move, bool) {
	switch {
	case !s.holds(id):
		return Move{Do: Fetch, Release: id}, false
	case !s.may(id):
		return Move{Do: Vet, Release: id}, false
	}
	return Move{}, true
}

func (s *Standing) may(id release.ID) bool { return s.May == nil || s.May(id) }

// missing is the release that is to be shown and is not held, or not whole any more: a
// canary first, where the node shows that.
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
	if needs(s.View, s.Shown) { // also while it waits to show the active one
		want = append(want, s.Shown)
	}
	for _, id := range want {
		if !s.holds(id) {
			return id
		}
	}
	return ""
}

// Room is the tree that a fetch fills, or the buffers whose claims have to be lowered
// before there is one; -1 and none: there is no room.
func (s *Standing) Room() (tree int, lower []int) {
	if i := choose(s.Trees, s.Shown, s.View, s.Claims); i >= 0 {
		return i, nil
	}
	return -1, stale(s.View, s.Claims)
}
