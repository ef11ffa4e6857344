package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"relman/release"
)

// Override names a rule that a request is to get past. It stands in the history.
type Override string

// What can be overridden.
const (
	OverrideRequire Override = "require" // how many nodes the policy wants, and how many may be put out
	OverrideFreeze  Override = "freeze"  // the freeze that stood when it was asked for
	OverrideVerdict Override = "verdict" // the verdict that stood then
)

// Bar is what a flip needs of the nodes.
type Bar struct {
	Registered int // nodes that it is measured by, those put out among them
	Need       int // of them have to hold the release
	MostOut    int // of them may be out because a rollout did not wait for them
}

// Bar is what the policy and a request want. Of a request that asks for
// nothing special, the zero one, it is the policy's alone.
func (v *View) Bar(d Desired) (Bar, error) {
	b := Bar{Registered: v.Registered()}
	var err error
	if b.Need, err = v.Policy.Value.Need(b.Registered); err != nil {
		return b, err
	}
	if b.MostOut, err = v.Policy.Value.MostOut(b.Registered); err != nil {
		return b, err
	}
	if d.Overrides(OverrideRequire) {
		b.Need, b.MostOut = 1, b.Registered
	}
	if d.Require != "" {
		need, err := ParseRequire(d.Require, b.Registered)
		if err != nil {
			return b, err
		}
		b.Need = max(b.Need, need)
	}
	return b, nil
}

// Registered counts the members, also those that are out or drain, so that
// putting nodes out does not lower what is wanted of the others. A new one
// that has not entered yet is not counted: it cannot hold up a flip. One that was
// out has been written before, and is.
func (v *View) Registered() int {
	nodes := map[release.NodeID]bool{}
	for _, c := range v.Claims {
		nodes[c.Node] = true
	}
	for n, m := range v.Members {
		if m.Value != MemberIn || m.Mod != m.Create {
			nodes[n] = true
		}
	}
	return len(nodes)
}

// Enough reports whether a readiness allows a flip as far as the policy goes:
// nobody late, and at least as many ready as it wants.
func (v *View) Enough(r Readiness) bool { return v.EnoughFor(r, Desired{}) }

// EnoughFor is Enough with what a request wants of the nodes.
func (v *View) EnoughFor(r Readiness, d Desired) bool {
	b, err := v.Bar(d)
	return err == nil && len(r.Late) == 0 && len(r.Ready) >= max(1, b.Need) && len(v.deadOf(r)) == 0
}

// deadOf are the ready nodes that have to live and do not.
func (v *View) deadOf(r Readiness) (dead []release.NodeID) {
	if !v.Policy.Value.RequireLive {
		return nil
	}
	for _, n := range r.Ready {
		if _, live := v.Live[n]; !live {
			dead = append(dead, n)
		}
	}
	return dead
}

// LateFor are the nodes that a rollout waits for: those that do not hold its
// release and, where the policy wants all to live, those that do not.
func (v *View) LateFor(r Readiness) []release.NodeID {
	return append(append([]release.NodeID{}, r.Late...), v.deadOf(r)...)
}

// MostLive is how many nodes a policy can want to live: each is a comparison in
// the flip's transaction.
const MostLive = 100

// liveGuards are those of the nodes that a flip counts, where the policy wants
// them to live.
func (v *View) liveGuards(buffer int, id release.ID) (guards []Guard) {
	if !v.Policy.Value.RequireLive {
		return nil
	}
	for _, n := range v.Ready(buffer, id).Ready {
		guards = append(guards, present(LiveKey(n), ClassNotLive))
	}
	return guards
}

// ParseRequire is how many of so many nodes "all", "3" or "75%" (rounded up) are.
func ParseRequire(s string, of int) (int, error) {
	if s == "all" {
		return of, nil
	}
	return atLeast("require", s, of)
}

// atLeast reads a number from 1, or a percentage, rounded up.
func atLeast(field, s string, of int) (int, error) {
	if pct, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(pct)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("%s is %q, a percentage can be 1%% to 100%%", field, s)
		}
		return max(1, (of*n+99)/100), nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q, it can be a number from 1 or a percentage", field, s)
	}
	return n, nil
}

// atMost reads a number from 0, or a percentage, rounded down but to one node
// at least: one of three nodes may be lost.
func atMost(field, s string, of int) (int, error) {
	if pct, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(pct)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("%s is %q, a percentage can be 1%% to 100%%", field, s)
		}
		return max(1, of*n/100), nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is %q, it can be a number from 0 or a percentage", field, s)
	}
	return n, nil
}

// Frozen reports whether the freeze that stands, if one does, forbids what is
// asked for.
func (v *View) Frozen(d Desired) bool {
	z := v.Freeze
	switch {
	case !z.Exists(), d.Mode == Abort:
		return false
	case (d.Mode == Rollback || d.Mode == EndCanary) && z.Value.AllowRollback:
		return false
	}
	return !d.Overrides(OverrideFreeze) || d.OverFreeze != z.Mod
}

// Judged is the verdict that forbids what is asked for, "" for none.
func (v *View) Judged(d Desired) string {
	verdict := v.Verdicts[d.Release]
	if d.Overrides(OverrideVerdict) && d.OverVerdict == verdict.Mod {
		return ""
	}
	return verdict.Value
}

// seen notes in a request which freeze and verdict it is to get past: those
// that v shows and no later ones.
func (d Desired) seen(v *View) Desired {
	if d.Overrides(OverrideFreeze) && v.Freeze.Exists() {
		d.OverFreeze = v.Freeze.Mod
	}
	if d.Overrides(OverrideVerdict) {
		d.OverVerdict = v.Verdicts[d.Release].Mod
	}
	return d
}
