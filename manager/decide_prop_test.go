package manager

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

var seed = flag.Uint64("seed", 0, "seed of the random views; 0 takes 1, 2, 3, …")

// TestDecide_random looks at many views, likely and unlikely ones, and checks what must hold of every decision.
func TestDecide_random(t *testing.T) {
	const views = 10_000
	from, count := uint64(1), views
	if *seed != 0 {
		from, count = *seed, 1
	}
	kinds := map[string]int{}
	for s := from; s < from+uint64(count); s++ {
		r := rand.New(rand.NewPCG(s, 2026))
		v := randomView(r)
		seen := randomSeen(r, v)
		a := decideSeeing(v, seen, now)
		kinds[fmt.Sprintf("%T", a)]++
		if wrong := wrongWith(v, seen, a); wrong != "" {
			t.Fatalf("-seed=%d: %s: %s\n%+v", s, text(a), wrong, v)
		}
	}
	for _, k := range []string{"manager.wait", "manager.admit", "manager.start", "manager.flip", "manager.end", "manager.drain", "manager.out", "manager.thaw"} {
		if kinds[k] < views/200 && *seed == 0 {
			t.Errorf("only %d of %d views led to %s: the test looks at too few of them", kinds[k], views, k)
		}
	}
	t.Log(kinds)
}

// wrongWith is the rule that a decision breaks, "" for none.
func wrongWith(v *cluster.View, seen *attendance, a action) string {
	d := v.Desired.Value
	if _, finished := v.Results[d.Request]; finished || !v.Desired.Exists() {
		switch a.(type) {
		case start, flip, end:
			return "acts on a finished request"
		}
	}
	switch a := a.(type) {
	case admit:
		for _, n := range a.nodes {
			if wrong := wrongAdmission(v, seen, n); wrong != "" {
				return wrong
			}
		}
	case start:
		return wrongStart(v, a.rollout)
	case flip:
		return wrongFlip(v, a.active)
	case drain:
		return wrongDrain(v, a.nodes)
	case out:
		return wrongOut(v, seen, a.nodes)
	case thaw:
		if !v.Freeze.Exists() || v.Freeze.Value.Until.IsZero() || now.Before(v.Freeze.Value.Until) {
			return "ends a freeze before its time"
		}
	case end:
		if a.result.State == cluster.StateFailed {
			return wrongFailure(v, seen, a.result.Error)
		}
		if a.result.Changed {
			return "says that something changed"
		}
	case wait:
		if !a.until.IsZero() && !a.until.After(now) {
			return "waits for what has come"
		}
	}
	return ""
}

func wrongStart(v *cluster.View, r cluster.Rollout) string {
	a := v.Active
	switch {
	case a.Exists() && r.Buffer == a.Value.Buffer:
		return "fills the active buffer"
	case a.Exists() && a.Value.Previous != nil && r.Buffer == a.Value.Previous.Buffer:
		return "fills the previous buffer"
	case r.Buffer < 0 || r.Buffer >= v.Policy.Value.Buffers:
		return "fills no buffer"
	case r.Request != v.Desired.Value.Request || r.Release != v.Desired.Value.Release:
		return "starts what was not asked for"
	case !r.Deadline.After(now):
		return "starts with a deadline that has passed"
	}
	return forbiddenBy(v)
}

func wrongFlip(v *cluster.View, a cluster.Active) string {
	ready := v.Ready(a.Buffer, a.Release)
	need, err := v.Policy.Value.Need(v.Entered() + len(v.OutNodes()) - entered(v, v.OutNodes()))
	if v.Desired.Value.Overrides(cluster.OverrideRequire) {
		need = 1
	}
	switch {
	case !v.EnoughFor(ready, v.Desired.Value):
		return "flips without enough claims"
	case err != nil || len(ready.Ready) < need || len(ready.Late) > 0:
		return "flips without enough claims, and Enough does not see it"
	case a.Quorum.Claims != len(ready.Ready) || a.Quorum.Members != v.Entered():
		return "gives wrong evidence"
	case a.Release != v.Desired.Value.Release || a.Request != v.Desired.Value.Request:
		return "flips to what was not asked for"
	case v.Desired.Value.Hold:
		return "flips what is to be held"
	case a.Epoch != v.Active.Value.Epoch+1:
		return "skips an epoch"
	case v.Active.Exists() && (a.Previous == nil || a.Previous.Release != v.Active.Value.Release || a.Previous.Buffer != v.Active.Value.Buffer):
		return "forgets the previous release"
	case v.Active.Exists() && a.Buffer == v.Active.Value.Buffer:
		return "flips within the active buffer"
	case a.Release == v.Active.Value.Release:
		return "flips to the active release"
	}
	return forbiddenBy(v)
}

func forbiddenBy(v *cluster.View) string {
	d := v.Desired.Value
	_, exists := v.Releases[d.Release]
	_, judged := v.Verdicts[d.Release]
	switch {
	case d.Mode == cluster.Abort:
		return "goes on in spite of an abort"
	case !exists:
		return "takes a release that is gone"
	case judged && !d.Overrides(cluster.OverrideVerdict):
		return "takes a release with a verdict"
	case v.Freeze.Exists() && !d.Overrides(cluster.OverrideFreeze) && (d.Mode != cluster.Rollback || !v.Freeze.Value.AllowRollback):
		return "goes on in spite of a freeze"
	}
	return ""
}

// randomView draws a view, each part often enough in the way that leads on
// that all decisions are seen.
func randomView(r *rand.Rand) *cluster.View {
	v := siteView(noNodes)
	chance := func(percent int) bool { return r.IntN(100) < percent }
	anyRelease := func() release.ID { return rel(1 + r.IntN(5)) }
	if chance(20) {
		v.Active = cluster.Entry[cluster.Active]{}
	} else {
		order := r.Perm(3)
		v.Active.Value.Release, v.Active.Value.Buffer = rel(2), order[0]
		v.Active.Value.Previous = &cluster.Held{Release: rel(1), Buffer: order[1]}
		if chance(20) {
			v.Active.Value.Previous = nil
		}
	}
	d := &v.Desired.Value
	d.Mode = []cluster.Kind{cluster.Publish, cluster.FlipTo, cluster.Rollback, cluster.Rollback, cluster.Publish, cluster.Abort}[r.IntN(6)]
	d.Release, d.Hold, d.PrepareSeconds = anyRelease(), chance(15), r.IntN(2)*(60+r.IntN(900))
	if chance(20) {
		d.Override = []cluster.Override{cluster.OverrideRequire, cluster.OverrideFreeze, cluster.OverrideVerdict}[:1+r.IntN(3)]
		d.OverFreeze, d.OverVerdict = int64(80+r.IntN(2)), 70
	}
	if chance(5) {
		v.Desired = cluster.Entry[cluster.Desired]{}
	}
	if chance(60) {
		rollout(anyRelease(), "req-3")(v)
		if chance(60) {
			v.Rollout.Value.Release = d.Release
		}
		v.Rollout.Value.Deadline = now.Add(time.Duration(r.IntN(3)-1) * time.Second)
		if chance(20) {
			v.Rollout.Value.Request = "req-2"
		}
	}
	v.Policy.Value.Min = []string{"100%", "100%", "100%", "51%", "1", "2", "5", "100%", "1%", "0"}[r.IntN(10)]
	v.Policy.Value.Buffers = []int{3, 3, 3, 3, 3, 3, 4, 8, 3, 2}[r.IntN(10)]
	v.Policy.Value.GraceSeconds = r.IntN(3) * 30
	v.Policy.Value.MostOutNodes = []string{"20%", "0", "1", "3", "100%"}[r.IntN(5)]
	v.Policy.Value.Stragglers = []string{"out", "out", "out", "wait"}[r.IntN(4)]
	if chance(10) {
		frozen(chance(50))(v)
		if chance(40) {
			v.Freeze.Value.Until = now.Add(time.Duration(r.IntN(3)-1) * time.Second)
		}
	}
	if chance(10) {
		verdict(anyRelease(), "bad 404s")(v)
	}
	if chance(10) {
		delete(v.Releases, anyRelease())
	}
	if chance(10) {
		v.Results[[]cluster.RequestID{"req-2", "req-3"}[r.IntN(2)]] = cluster.Result{State: cluster.StateFailed}
	}
	randomNodes(r, v, chance)
	return v
}

func randomNodes(r *rand.Rand, v *cluster.View, chance func(int) bool) {
	same := chance(60) // all nodes hold the same
	held := []release.ID{"", "", ""}
	for i := range r.IntN(6) {
		id := release.NodeID(fmt.Sprintf("web-%d", i))
		applicant(id)(v)
		if chance(10) {
			dead(id)(v)
		}
		if chance(10) {
			continue
		}
		v.Members[id] = entry(cluster.MemberIn, 30)
		if chance(5) {
			v.Cordons[id] = entry(cluster.Cordon{By: "ops"}, 40)
		}
		switch { // stray claims of those that are out among them
		case chance(5):
			v.Members[id] = entry(cluster.MemberOut, 30)
			v.Status[id] = cluster.Status{State: cluster.NodeOut, Epoch: release.Epoch(r.IntN(2)) * 7}
		case chance(5):
			v.Members[id] = entry(cluster.MemberDrain, 30)
			v.Status[id] = cluster.Status{State: cluster.NodeDraining, Drained: 29 + int64(r.IntN(2))}
		}
		if chance(10) || v.Members[id].Value == cluster.MemberOut && chance(90) {
			continue
		}
		if i == 0 || !same {
			for k := range held {
				held[k] = []release.ID{"", rel(1), rel(2), rel(3), v.Desired.Value.Release}[r.IntN(5)]
			}
		}
		v.Claims = append(v.Claims, claims(id, held...)...)
	}
	keepActive(v)
}

// keepActive makes the claims of the active buffer possible ones: the active
// release or nothing.
func keepActive(v *cluster.View) {
	for i, c := range v.Claims {
		if a := v.Active; a.Exists() && c.Buffer == a.Value.Buffer && c.Release != "" {
			v.Claims[i].Release = a.Value.Release
		}
	}
}

// randomSeen draws what the leader has seen of a view's nodes.
func randomSeen(r *rand.Rand, v *cluster.View) *attendance {
	seen := newAttendance()
	ago := func() time.Time { return now.Add(-time.Duration(r.IntN(9)) * 15 * time.Second) }
	seen.note(v, ago())
	for _, at := range seen.nodes {
		at.since, at.shaky = ago(), r.IntN(3) == 0
		if at.drain != 0 {
			at.draining = ago()
		}
	}
	seen.note(v, now)
	if !seen.held.IsZero() {
		seen.held = ago()
	}
	return seen
}

func wrongAdmission(v *cluster.View, seen *attendance, n release.NodeID) string {
	_, live := v.Live[n]
	m := v.Members[n]
	again := m.Value == cluster.MemberOut && (!v.Active.Exists() || v.Status[n].Epoch == v.Active.Value.Epoch) && now.Sub(seen.nodes[n].since) >= 11*time.Second
	switch {
	case !live:
		return "admits " + string(n) + ", which is dead"
	case v.Cordons[n].Exists():
		return "admits " + string(n) + ", which is cordoned"
	case m.Exists() && !again:
		return "admits " + string(n) + " again, which is not to be trusted yet"
	}
	return ""
}

func wrongFailure(v *cluster.View, seen *attendance, why *cluster.ErrorInfo) string {
	held := !seen.held.IsZero() && now.Sub(seen.held) >= v.Policy.Value.Grace()
	end, hard := hardEnd(v)
	ended := hard && !now.Before(end)
	if !now.Before(v.Rollout.Value.Deadline) || ended || held && why.Class == cluster.ClassQuorum {
		return ""
	}
	return "fails before its time"
}

func wrongDrain(v *cluster.View, nodes []release.NodeID) string {
	for _, n := range nodes {
		if v.Members[n].Value != cluster.MemberIn {
			return "drains " + string(n) + ", which is not in"
		}
	}
	return wrongLoss(v, nodes)
}

func wrongOut(v *cluster.View, seen *attendance, nodes []release.NodeID) string {
	wait := 11100 * time.Millisecond
	for _, n := range nodes {
		_, live := v.Live[n]
		at, m := seen.nodes[n], v.Members[n]
		switch {
		case m.Value == cluster.MemberIn && (live || now.Sub(at.since) < wait):
			return string(n) + " may still be serving"
		case m.Value == cluster.MemberDrain && v.Status[n].Drained != m.Mod && now.Sub(at.draining) < wait:
			return string(n) + " has not drained"
		case m.Value == cluster.MemberOut && entered(v, []release.NodeID{n}) == 0:
			return string(n) + " is out already"
		}
	}
	return wrongLoss(v, nodes)
}

// wrongLoss: not more nodes are lost than may be, but by an operator's wish.
func wrongLoss(v *cluster.View, nodes []release.NodeID) string {
	lost := 0
	for n, m := range v.Members {
		if !v.Cordons[n].Exists() && (m.Value != cluster.MemberIn || slices.Contains(nodes, n)) {
			lost++
		}
	}
	fresh := slices.ContainsFunc(nodes, func(n release.NodeID) bool { return v.Members[n].Value == cluster.MemberIn && !v.Cordons[n].Exists() })
	most, _ := v.Policy.Value.MostOut(v.Registered())
	switch {
	case !fresh || v.Desired.Value.Overrides(cluster.OverrideRequire):
		return ""
	case v.Policy.Value.Stragglers == cluster.StragglersWait:
		return "does not wait"
	case lost > most:
		return fmt.Sprintf("loses %d nodes, %d are allowed", lost, most)
	case !preparing(v) || v.Done():
		return "puts nodes out that nobody waits for"
	}
	return ""
}

// entered counts those of some nodes that have claims.
func entered(v *cluster.View, nodes []release.NodeID) int {
	n := 0
	for _, e := range v.EnteredNodes() {
		if slices.Contains(nodes, e) {
			n++
		}
	}
	return n
}
