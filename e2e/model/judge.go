package main

import (
	"slices"

	"relman/cluster"
	"relman/release"
)

// The invariants. They read keys and values and never a guard: what a
// transaction does at the state at which it commits is judged by that state.

// verdicts collects what is wrong.
type verdicts struct{ bad []string }

func (w *verdicts) must(holds bool, what string) {
	if !holds && !slices.Contains(w.bad, what) {
		w.bad = append(w.bad, what)
	}
}

// wrongState is what must not be in any state.
func (x *explorer) wrongState(s *state) []string {
	var w verdicts
	v := x.view(s.etcd)
	a, ro := v.Active.Value, v.Rollout.Value
	if v.Rollout.Exists() {
		w.must(!v.Active.Exists() || ro.Buffer != a.Buffer, "I10 a rollout fills the active buffer")
		w.must(a.Canary == nil || ro.Buffer != a.Canary.Buffer, "I10 a rollout fills the buffer of the canary")
		w.must(a.Previous == nil || ro.Buffer != a.Previous.Buffer, "I10 a rollout fills the previous buffer")
		_, ended := v.Results[ro.Request]
		w.must(!ended, "I11 a rollout stands of a request that has ended")
	}
	if v.Desired.Exists() && !x.w.hand {
		_, kept := v.Releases[v.Desired.Value.Release]
		w.must(v.Done() || takesBack(v.Desired.Value) || kept, "I14 what is asked for is not registered")
	}
	if v.Active.Exists() && !x.w.hand {
		_, kept := v.Releases[a.Release]
		w.must(kept, "I14 what is active is not registered")
	}
	for id, verdict := range v.Verdicts {
		_, kept := v.Releases[id]
		w.must(kept || verdict.Value == "", "I14 a verdict stands on no release")
	}
	for i := range x.w.nodes {
		x.wrongNode(&w, s, v, i)
	}
	x.wrongStore(&w, s, v)
	return w.bad
}

func (x *explorer) wrongNode(w *verdicts, s *state, v *cluster.View, i int) {
	n := &s.nodes[i]
	if n.takesTraffic() {
		w.must(n.holds(n.shows), "I1 a node shows what it has not verified")
	}
	// One that drains cannot take back a claim any more: it takes no traffic, and
	// the leader does it.
	if !n.up || !n.learnt || v.Members[selfOf(i, 0).Node].Value != cluster.MemberIn {
		return
	}
	claims, _ := x.claims(v, i)
	for _, r := range claims {
		w.must(r == 0 || n.holds(r), "I5 a claim is not true on its disk")
	}
}

// judge is what a transaction must not do at the state s, which makes it next.
func (x *explorer) judge(s *state, t *intent, next int32, again bool) []string {
	var w verdicts
	b, a := x.view(s.etcd), x.view(next)
	guarded := t.txn.Mark != nil && len(t.txn.Guards) > 0
	w.must(!again || !guarded, "I7 two copies of "+t.kind+" commit")
	if len(t.txn.Guards) > 0 && t.who <= manager1 {
		w.must(x.stillLeads(s.etcd, t), "I4 a deposed leader writes ("+t.kind+")")
	}
	x.judgeResults(&w, b, a)
	if a.Active.Mod != b.Active.Mod && t.kind != "Flip" && t.kind != "Revert" {
		w.must(false, "I3 active changes without a flip")
	}
	if j := judges()[t.kind]; j != nil {
		j(x, &w, s, t, b, a)
	}
	return w.bad
}

// stillLeads: the key by which the leader of the intention was elected stands.
func (x *explorer) stillLeads(at int32, t *intent) bool {
	was, is := x.pair(t.saw, electionKey(t.who)), x.pair(at, electionKey(t.who))
	return was != nil && is != nil && was.Create == is.Create
}

// judgeResults: a request ends once, and no request is forgotten.
func (x *explorer) judgeResults(w *verdicts, b, a *cluster.View) {
	for id, r := range b.Results {
		now, is := a.Results[id]
		reverted := is && r.State == cluster.StateActive && now.State == cluster.StateReverted
		w.must(!is || reverted || now.State == r.State && now.Epoch == r.Epoch, "I15 a result changes")
	}
	d, was := a.Desired.Value, b.Desired.Value
	if b.Desired.Exists() && d.Request != was.Request && !b.Done() {
		_, ended := a.Results[was.Request]
		w.must(ended || slices.Contains(d.Replaces, was.Request), "I15 a request is overwritten by one that does not know it")
	}
}

type judgement func(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View)

// judges are what each transaction promises.
func judges() map[string]judgement {
	return map[string]judgement{
		"Flip": judgeFlip, "Revert": judgeRevert, "StartRollout": judgeStart, "End": judgeEnd,
		"Enter": judgeClaims, "ClaimReady": judgeClaims, "Retract": judgeClaims, "Lower": judgeClaims,
		"Thaw": judgeThaw, "NoteTold": judgeTold, "NoteSkew": judgeSkew, "EndBake": judgeBaked, "RemoveNode": judgeRemove, "Approve": judgeApprove,
		"SetFreeze":  seen("freeze", func(v *cluster.View) any { return v.Freeze.Mod }),
		"SetPolicy":  seen("policy", func(v *cluster.View) any { return v.Policy.Mod }),
		"SetCordon":  seen("cordon", func(v *cluster.View) any { return v.Cordons["n0"].Mod }),
		"Confirm":    seen("trial", func(v *cluster.View) any { return [2]int64{v.Active.Mod, v.Confirmed.Mod} }),
		"SetVerdict": judgeVerdict,
		"SetPin":     judgePin,
		"CreateSite": judgeCreate, "MarkUpload": judgeMark, "Register": judgeRegister,
		"BeginSweep": judgeBegin, "AwaitSweep": judgeBegin, "Forget": judgeForget,
		"Admit": judgeAdmit, "Drain": judgeDrain, "Out": judgeOut, "Request": judgeRequest,
	}
}

// asked: what a leader does for a request that stands, and is open.
func asked(w *verdicts, t *intent, b *cluster.View) {
	_, ended := b.Results[t.request]
	w.must(b.Desired.Value.Request == t.request, "I11 "+t.kind+" for a request that another one has replaced")
	w.must(!ended, "I11 "+t.kind+" for a request that has ended")
}

func forbidden(w *verdicts, t *intent, b *cluster.View, d cluster.Desired) {
	z := b.Freeze
	allowed := d.Overrides(cluster.OverrideFreeze) && d.OverFreeze == z.Mod || (d.Mode == cluster.Rollback || d.Mode == cluster.EndCanary) && z.Value.AllowRollback
	w.must(!z.Exists() || allowed, "I6 "+t.kind+" while a freeze stands")
	if takesBack(d) {
		return
	}
	verdict, judged := b.Verdicts[t.release]
	allowed = d.Overrides(cluster.OverrideVerdict) && d.OverVerdict == verdict.Mod
	w.must(!judged || allowed, "I11 "+t.kind+" of a release that is judged")
}

func judgeFlip(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	asked(w, t, b)
	forbidden(w, t, b, b.Desired.Value)
	was := x.view(t.saw).Rollout
	w.must(!was.Exists() || b.Rollout.Mod == was.Mod, "I11 a rollout that has ended becomes active")
	x.judgeNewActive(w, s, t, b, a)
}

func judgeRevert(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	forbidden(w, t, b, cluster.Desired{Mode: cluster.Rollback})
	saw := x.view(t.saw)
	w.must(!saw.OnTrial() || b.OnTrial(), "T7 what was confirmed goes back")
	w.must(saw.OnTrial() || b.Baking(), "T7 what has baked goes back")
	x.judgeNewActive(w, s, t, b, a)
}

// judgeNewActive is what holds of every change of the active key.
func (x *explorer) judgeNewActive(w *verdicts, s *state, t *intent, b, a *cluster.View) {
	next := a.Active.Value
	w.must(next.Epoch == b.Active.Value.Epoch+1, "I3 an epoch is skipped or written twice")
	p := next.Previous
	d := b.Desired.Value
	if t.kind == "Revert" {
		d = cluster.Desired{}
	}
	anew := cluster.Held{Release: next.Release, Buffer: next.Buffer}
	switch before := b.Active.Value; d.Mode {
	case cluster.TryOut, cluster.EndCanary:
		w.must(next.Release == before.Release && sameHeld(p, before.Previous), "I3 a canary changes what is active")
		w.must((next.Canary != nil) == (d.Mode == cluster.TryOut), "T13 a canary stands that was not asked for")
		if d.Mode == cluster.EndCanary {
			return
		}
		anew = cluster.Held{Release: next.Canary.Release, Buffer: next.Canary.Buffer}
	default:
		was := cluster.Held{Release: before.Release, Buffer: before.Buffer}
		w.must(!b.Active.Exists() || pending(s, before) || p != nil && *p == was, "I3 previous is not what was active")
		w.must(before.Canary == nil || d.Mode == cluster.Rollback || before.Canary.Release == next.Release, "T13 a flip ends a canary that nobody wanted to end")
		w.must(next.Canary == nil, "T13 a canary stands that was not asked for")
	}
	rec, kept := b.Releases[anew.Release]
	w.must(kept && rec.Create == x.view(t.saw).Releases[anew.Release].Create, "I14 a release becomes active that is not registered")
	r := b.Ready(anew.Buffer, anew.Release)
	w.must(len(r.Late) == 0, "I2 a flip though a member does not hold the release")
	w.must(len(r.Ready) > 0, "I2 a flip though nobody holds the release")
	bar, err := b.Bar(d)
	w.must(err == nil && len(r.Ready) >= bar.Need, "I13 a flip with fewer nodes than the policy wants")
	for _, n := range r.Ready {
		_, live := b.Live[n]
		w.must(live || !b.Policy.Value.RequireLive, "I13 a flip counts a node that does not live")
	}
	for i := range x.w.nodes {
		n := &s.nodes[i]
		if !n.takesTraffic() || !n.learnt { // one that finds itself damaged says so next
			continue
		}
		w.must(n.holds(number(anew.Release)), "I8 a node takes traffic and does not hold the new release")
		w.must(!b.Active.Exists() || n.holds(number(b.Active.Value.Release)), "I8 a node takes traffic and does not hold the old release")
		kept := slices.ContainsFunc(append(next.Needed(), anew), func(h cluster.Held) bool { return number(h.Release) == n.shows })
		behind := !b.Active.Exists() || n.epoch < int8(b.Active.Value.Epoch) && !pending(s, b.Active.Value)
		w.must(kept || behind, "I8 a flip gives up what nodes show")
	}
}

// pending: what is active was scheduled, and its time has not come.
func pending(s *state, a cluster.Active) bool { return !s.due && a.Pending(noon) }

func sameHeld(a, b *cluster.Held) bool { return a == b || a != nil && b != nil && *a == *b }

// takesBack: a request that only undoes.
func takesBack(d cluster.Desired) bool { return d.Mode == cluster.Abort || d.Mode == cluster.EndCanary }

func judgeStart(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	asked(w, t, b)
	forbidden(w, t, b, b.Desired.Value)
	_, err := b.Bar(b.Desired.Value)
	w.must(err == nil && b.Policy.Mod == x.view(t.saw).Policy.Mod, "T3 a rollout starts by a policy that does not count any more")
	w.must(b.Rollout.Mod == x.view(t.saw).Rollout.Mod, "T3 a rollout takes the place of one that was not seen")
}

func judgeEnd(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	asked(w, t, b)
	w.must(!a.Rollout.Exists() || a.Rollout.Value.Request != t.request, "I11 a rollout stands of a request that has ended")
}

// judgeClaims is what holds of every transaction in which a node writes claims.
func judgeClaims(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	i := int(t.who - node0)
	if t.who == late {
		return
	}
	n := &s.nodes[i]
	self := selfOf(i, t.boot)
	w.must(b.Members[self.Node].Value == cluster.MemberIn, "N6 "+t.kind+" by a node that is not in")
	w.must(b.Live[self.Node].Boot == self.Live.Boot, "N9 "+t.kind+" by a start of a node that has ended")
	turn := cluster.TurnKey(self.Node, www)
	w.must(x.mod(s.etcd, turn) == x.mod(t.saw, turn), "N3 "+t.kind+" of an earlier turn of a node")
	was, had := x.claims(b, i)
	is, _ := x.claims(a, i)
	ro := b.Rollout.Value
	for k := range is {
		needed := b.Active.Exists() && slices.ContainsFunc(b.Active.Value.Needed(), func(h cluster.Held) bool {
			return k == h.Buffer && was[k] == number(h.Release)
		})
		lost := was[k] != 0 && is[k] != was[k]
		backed := t.kind != "Lower" || n.holds(was[k])
		w.must(!lost || !needed || !backed, "I12 "+t.kind+" takes back what active, previous or a canary rests on")
		counts := b.Rollout.Exists() && k == ro.Buffer && was[k] == number(ro.Release)
		counts = counts && b.Rollout.Mod != x.view(t.saw).Rollout.Mod || counts && t.kind != "Lower"
		w.must(!lost || !counts || !backed, "I12 "+t.kind+" takes back what a rollout rests on")
	}
	switch t.kind {
	case "ClaimReady":
		w.must(had, "T5 a claim of a node that has not entered")
		w.must(b.Rollout.Exists() && number(ro.Release) == number(t.release), "T5 a claim for a rollout that does not stand")
	case "Retract":
		w.must(had, "T4 a claim of a node that has not entered")
		w.must(b.Rollout.Exists() && ro.Buffer == t.buffers[0], "T4 a claim goes for a rollout that does not stand")
	case "Enter":
		act := b.Active.Value
		w.must(!b.Active.Exists() || is[act.Buffer] == number(act.Release), "T11 a node enters without what is active")
		w.must(had || !b.Rollout.Exists() || is[ro.Buffer] == number(ro.Release), "T11 a node enters and holds up a rollout")
	case "Lower":
		w.must(had, "T11a a node enters by lowering")
	}
}

func judgeAdmit(x *explorer, w *verdicts, _ *state, t *intent, b, _ *cluster.View) {
	n := selfOf(t.buffers[0], 0).Node
	_, live := b.Live[n]
	_, joined := b.Joins[n]
	w.must(live, "T10 a node is admitted that does not live")
	w.must(joined, "T10 a node is admitted that has not joined")
	w.must(!b.Cordons[n].Exists(), "T10 a node is admitted that is cordoned")
	w.must(b.Members[n].Value != cluster.MemberIn, "T10 a member is admitted again")
	w.must(b.Policy.Value.Admission != cluster.AdmitApproved || b.Members[n].Exists() || b.Approved[n], "T10 a node is admitted that nobody approved of")
}

func judgeDrain(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	n := selfOf(t.buffers[0], 0).Node
	w.must(b.Members[n].Value == cluster.MemberIn, "T9 a node drains that is not in")
	x.judgeMostOut(w, b, a)
}

func (x *explorer) judgeMostOut(w *verdicts, b, a *cluster.View) {
	bar, err := b.Bar(cluster.Desired{})
	w.must(err == nil && (len(a.OutNodes()) <= bar.MostOut || len(a.OutNodes()) <= len(b.OutNodes())), "T9 more nodes are out than the policy allows")
	w.must(a.Roster.Value.V == b.Roster.Value.V+1, "T9 the roster does not count a change")
}

func judgeOut(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	i := t.buffers[0]
	n := selfOf(i, 0).Node
	w.must(!s.nodes[i].takesTraffic(), "I8 a node is out that takes traffic")
	w.must(b.Members[n].Value != cluster.MemberIn || !has(b.Live, n), "T9 a node that lives is out without a drain")
	_, left := x.claims(a, i)
	w.must(!left, "T9 a node is out and has claims")
	x.judgeMostOut(w, b, a)
}

func has[T any](m map[release.NodeID]T, n release.NodeID) bool { _, is := m[n]; return is }

func judgeRequest(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	d := a.Desired.Value
	w.must(b.Active.Mod == x.view(t.saw).Active.Mod, "T2 a request rests on what is not active any more")
	if d.Mode == cluster.Abort {
		return
	}
	_, kept := b.Releases[d.Release]
	w.must(takesBack(d) || kept, ("T2 a release is asked for that is not registered"))
	forbidden(w, t, b, d)
}

// seen: who changes what operators write has seen what stood there.
func seen(what string, read func(v *cluster.View) any) judgement {
	return func(x *explorer, w *verdicts, _ *state, t *intent, b, _ *cluster.View) {
		w.must(read(b) == read(x.view(t.saw)), "T12 an operator overwrites a "+what+" that he has not seen")
	}
}

func judgePin(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	_, kept := b.Releases[rel(2)]
	w.must(kept, "T12 a pin on what is not registered")
	seen("pin", func(v *cluster.View) any { return v.Pins[rel(2)].Mod })(x, w, s, t, b, a)
}

func judgeVerdict(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	seen("verdict", func(v *cluster.View) any { return v.Verdicts[t.release].Mod })(x, w, s, t, b, a)
}

func judgeThaw(x *explorer, w *verdicts, _ *state, t *intent, b, _ *cluster.View) {
	w.must(!b.Freeze.Exists() || !b.Freeze.Value.Until.IsZero(), "T12 a freeze goes whose time is not over")
}

func judgeTold(_ *explorer, w *verdicts, _ *state, _ *intent, b, a *cluster.View) {
	w.must(a.Told.Value > b.Told.Value, "the hook is told of an epoch again")
}

func judgeApprove(_ *explorer, w *verdicts, _ *state, _ *intent, b, _ *cluster.View) {
	w.must(!b.Members["n1"].Exists(), "T10 a member is approved of")
}

func judgeRemove(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	w.must(!has(b.Live, "n1"), "T9 a node that lives is removed")
	left, _ := x.claims(b, 1)
	w.must(left == [3]int8{}, "T9 a node is removed and its claims stand")
	w.must(b.Members["n1"].Value == x.view(t.saw).Members["n1"].Value, "T9 a node is removed that has become another member")
	w.must(a.Roster.Value.V == b.Roster.Value.V+1, "T9 the roster does not count a change")
}

func judgeSkew(x *explorer, w *verdicts, s *state, t *intent, _, _ *cluster.View) {
	w.must(!x.has(s.etcd, t.txn.Mark.Key), "the skew of an epoch is written again")
}

func judgeBaked(x *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	w.must(a.Baked.Value == uint64(b.Active.Value.Epoch), "T7 a bake ends of what is not active")
	w.must(b.Baked.Mod == x.view(t.saw).Baked.Mod, "T7 a bake ends again")
}
