package manager

import (
	"fmt"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// action is what to do about a site next. Each is one transaction, or several
// that do not depend on each other, or to wait.
type action interface {
	// steps are the transactions of the action, made from what v shows.
	steps(f cluster.Fence, v *cluster.View) []step
}

type (
	// wait is to do nothing until something changes or, unless it is zero,
	// until that time.
	wait struct{ until time.Time }
	// admit makes nodes that asked to join members.
	admit struct{ nodes []release.NodeID }
	// start tells the nodes to fill a buffer.
	start struct{ rollout cluster.Rollout }
	// flip makes a release active that every member holds.
	flip struct{ active cluster.Active }
	// end gives the request its result without a flip.
	end struct{ result cluster.Result }
)

// admitAtOnce bounds how long a flip can wait for admissions.
const admitAtOnce = 32

// decideSeeing says what to do next about a site, from one revision of its
// state, what the leader has seen itself, and the time. What ends a request comes
// first, so that neither a flip nor an answer waits for nodes that join; a rollout starts
// only when those that are there are members and so hear of it.
func decideSeeing(v *cluster.View, seen *attendance, now time.Time) action {
	if thawed(v, now) {
		return thaw{}
	}
	if r := lapsed(v, now); r != nil {
		return *r
	}
	if a := baked(v, now); a != nil {
		return a
	}
	opens, opening := unbar(v, seen, now)
	if opens != nil {
		return opens
	}
	next := answer(v, seen, now)
	switch next.(type) {
	case flip, end:
		return next
	}
	keep, until := upkeep(v, seen, now)
	if keep != nil {
		return keep
	}
	if w, ok := next.(wait); ok {
		return wait{until: soonest(now, w.until, until, opening, v.Freeze.Value.Until, trialEnd(v), bakeEnd(v), heardEnd(v))}
	}
	return next
}

// answer says what the request that was made last needs next.
func answer(v *cluster.View, seen *attendance, now time.Time) action {
	if v.Done() {
		return wait{}
	}
	d := v.Desired.Value
	if d.Mode == cluster.Abort {
		return end{aborted(v, now)}
	}
	if why := wrongSchedule(v, now); why != nil {
		return end{cluster.Result{State: cluster.StateRefused, Release: d.Release, Error: why, At: now}}
	}
	if why := forbidden(v); why != nil {
		return end{cluster.Result{State: cluster.StateRefused, Release: d.Release, Error: why, At: now}}
	}
	if r := alreadySo(v, now); r != nil {
		return end{*r}
	}
	if d.Mode == cluster.EndCanary {
		return flip{nextActive(v, cluster.Readiness{}, now)}
	}
	if r, held := v.HeldBy(d.Release); held {
		if d.Hold {
			return end{cluster.Result{State: cluster.StateReady, Release: d.Release, At: now}}
		}
		return flip{nextActive(v, r, now)}
	}
	switch {
	case preparing(v):
		return hurry(v, seen, now)
	case v.BackBuffer() < 0:
		return end{noRoom(v, now)}
	}
	return start{newRollout(v, now)}
}

// aborted is the result of a request to abort; what it aborted gets its own
// result in the same transaction.
func aborted(v *cluster.View, now time.Time) cluster.Result {
	return cluster.Result{State: cluster.StateAborted, Release: v.Rollout.Value.Release, At: now}
}

// forbidden says which rule keeps the requested release from becoming active,
// nil for none.
func forbidden(v *cluster.View) *cluster.ErrorInfo {
	d := v.Desired.Value
	if z := v.Freeze; v.Frozen(d) {
		return refuse(cluster.ClassFrozen, "%s is frozen by %s: %s", v.Site, z.Value.By, z.Value.Reason)
	}
	if why := wrongCanary(v); why != nil || d.Mode == cluster.EndCanary {
		return why
	}
	if _, ok := v.Releases[d.Release]; !ok {
		return refuse(cluster.ClassReleaseGone, "%s has no release %s", v.Site, d.Release)
	}
	if verdict := v.Judged(d); verdict != "" {
		return refuse(cluster.ClassYanked, "release %s is %s", d.Release, cluster.VerdictText(verdict))
	}
	// Only an edit by hand leads here. No buffer could be chosen by such a policy.
	if err := v.Policy.Value.Validate(); err != nil {
		return refuse(cluster.ClassPolicyChanged, "%v", err)
	}
	if _, err := v.Bar(d); err != nil {
		return refuse(cluster.ClassQuorum, "%v", err)
	}
	if n := v.Entered(); v.Policy.Value.RequireLive && n > cluster.MostLive {
		return refuse(cluster.ClassPolicyChanged, "policy: require_live is for at most %d nodes, %s has %d", cluster.MostLive, v.Site, n)
	}
	return nil
}

func refuse(c cluster.Class, format string, args ...any) *cluster.ErrorInfo {
	return &cluster.ErrorInfo{Class: c, Text: fmt.Sprintf(format, args...)}
}

// preparing reports whether the rollout in flight is that of the request.
func preparing(v *cluster.View) bool {
	r, d := v.Rollout, v.Desired.Value
	return r.Exists() && r.Value.Request == d.Request && r.Value.Release == d.Release
}

// newRollout fills the back buffer, in the time that the policy or, when that
// is less, the request allows.
func newRollout(v *cluster.View, now time.Time) cluster.Rollout {
	d := v.Desired.Value
	allowed := v.Policy.Value.PrepareDeadline()
	if d.PrepareSeconds > 0 {
		allowed = min(allowed, time.Duration(d.PrepareSeconds)*time.Second)
	}
	return cluster.Rollout{
		Release:  d.Release,
		Buffer:   v.BackBuffer(),
		Started:  now,
		Deadline: now.Add(allowed),
		Request:  d.Request,
	}
}

// nextActive is what a flip for the request writes. The flip id is the rollout's; a
// flip that needs no rollout gets one when it is acted on.
func nextActive(v *cluster.View, r cluster.Readiness, now time.Time) cluster.Active {
	d, old := v.Desired.Value, v.Active
	a := cluster.Active{
		Release:  d.Release,
		Buffer:   r.Buffer,
		Manifest: v.Releases[d.Release].Value.Manifest,

		Epoch:    old.Value.Epoch + 1,
		Kind:     d.Mode,
		At:       now,
		By:       d.By,
		Message:  d.Message,
		Request:  d.Request,
		Override: d.Override,
		Quorum:   evidence(v, r),
	}
	if d.Mode == cluster.TryOut || d.Mode == cluster.EndCanary {
		beside(&a, v, r)
	} else {
		a = a.Schedule(old, d.ActivateTime(now))
	}
	a.ConfirmBy, a.Bake = d.ConfirmTime(a.Since()), bakes(v, a)
	if preparing(v) {
		a.Flip = v.Rollout.Value.Flip
	}
	return a
}

// evidence is what a flip rests on, as the view shows it.
func evidence(v *cluster.View, r cluster.Readiness) cluster.Quorum {
	b, _ := v.Bar(v.Desired.Value)
	without := slices.DeleteFunc(v.OutNodes(), func(n release.NodeID) bool { return v.Members[n].Value == cluster.MemberDrain })
	return cluster.Quorum{
		Members: v.Entered(), Claims: len(r.Ready),
		Need: b.Need, Without: without[:min(len(without), maxNamed)],
	}
}
