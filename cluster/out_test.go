package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"relman/release"
)

// setPolicy changes the site's policy.
func (w *world) setPolicy(change func(p *Policy)) {
	w.t.Helper()
	p := w.view().Policy.Value
	change(&p)
	w.put(ConfigKey(w.site), encode(p))
}

func (w *world) member(i int) string { return MemberKey(w.site, w.nodes[i].Node) }

// rosterTests are the rows of txnTests about who counts, and about what a
// request may override.
var rosterTests = []txnTest{
	{
		name: "T9 drain",
		make: func(w *world) Txn {
			return Drain(w.fence, w.view(), []release.NodeID{w.nodes[0].Node}, "straggler")
		},
		check: func(w *world, _ int64) {
			w.wantValue(w.member(0), "drain")
			w.wantValue(w.member(1), "in")
			w.wantValue(ClaimKey(w.site, 1, "main", w.nodes[0].Node), string(w.r2))
			w.wantValue(RosterKey(w.site), fmt.Sprintf(`{"v":2,"why":"drain %s: straggler"}`, w.nodes[0].Node))
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"the roster changed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"put out meanwhile", func(w *world) { w.put(w.member(0), "out") }, ClassConflict},
		},
	},
	{
		name: "T9 out, dead",
		prepare: func(w *world) {
			w.del(LiveKey(w.nodes[0].Node))
			w.put(LastKey(w.nodes[0].Node), encode(Last{Boot: "01BOOT", FenceMS: 10_000}))
			w.put(ClaimKey(w.site, 5, "canary", w.nodes[0].Node), NoClaim) // of another time
		},
		make: func(w *world) Txn {
			return Out(w.fence, w.view(), []release.NodeID{w.nodes[0].Node}, "no live session")
		},
		check: func(w *world, _ int64) {
			w.wantValue(w.member(0), "out")
			v := w.view()
			if left := v.claimsOf(w.nodes[0].Node); len(left) > 0 || len(v.claimsOf(w.nodes[1].Node)) != 3 {
				w.t.Errorf("claims left: %v", v.Claims)
			}
			w.wantValue(RosterKey(w.site), fmt.Sprintf(`{"v":2,"why":"out %s: no live session"}`, w.nodes[0].Node))
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"the roster changed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"the member changed", func(w *world) { w.again(w.member(0)) }, ClassConflict},
			{"it came back", func(w *world) { w.put(LiveKey(w.nodes[0].Node), encode(w.nodes[0].Live)) }, ClassConflict},
			{"it came back and went again", func(w *world) { w.again(LastKey(w.nodes[0].Node)) }, ClassConflict},
		},
	},
	{
		name:    "T9 out, drained",
		prepare: func(w *world) { w.put(w.member(0), "drain"); w.put(w.member(1), "drain") },
		make: func(w *world) Txn {
			return Out(w.fence, w.view(), []release.NodeID{w.nodes[0].Node, w.nodes[1].Node}, "drained")
		},
		check: func(w *world, _ int64) {
			w.wantValue(w.member(0), "out")
			w.wantValue(w.member(1), "out")
			if left := w.view().Claims; len(left) > 0 {
				w.t.Errorf("claims left: %v", left)
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"the roster changed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"the first counts again", func(w *world) { w.put(w.member(0), "in") }, ClassConflict},
			{"the second counts again", func(w *world) { w.put(w.member(1), "in") }, ClassConflict},
		},
	},
	{
		name:    "T9 out, a claim was left",
		prepare: func(w *world) { w.put(w.member(0), "out") },
		make: func(w *world) Txn {
			return Out(w.fence, w.view(), []release.NodeID{w.nodes[0].Node}, "it left a claim")
		},
		check: func(w *world, _ int64) {
			if left := w.view().claimsOf(w.nodes[0].Node); len(left) > 0 {
				w.t.Errorf("claims left: %v", left)
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"the roster changed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"admitted again", func(w *world) { w.put(w.member(0), "in") }, ClassConflict},
		},
	},
	{
		name:    "T10 admit again",
		prepare: func(w *world) { w.put(w.member(0), "out") },
		make:    func(w *world) Txn { return Admit(w.fence, w.view(), w.nodes[0].Node) },
		check:   func(w *world, _ int64) { w.wantValue(w.member(0), "in") },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"put out anew", func(w *world) { w.again(w.member(0)) }, ClassConflict},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"cordoned", func(w *world) { w.put(CordonKey(w.site, w.nodes[0].Node), "{}") }, ClassConflict},
			{"dead", func(w *world) { w.del(LiveKey(w.nodes[0].Node)) }, ClassNotLive},
			{"never joined", func(w *world) { w.del(JoinKey(w.nodes[0].Node)) }, ClassNotLive},
		},
	},
	{
		name: "T10 admit with approval",
		prepare: func(w *world) {
			w.setPolicy(func(p *Policy) { p.Admission = AdmitApproved })
			w.del(w.member(0))
			w.put(ApprovalKey(w.site, w.nodes[0].Node), encode(Approval{By: "op"}))
		},
		make: func(w *world) Txn {
			if !w.view().Approved[w.nodes[0].Node] {
				w.t.Error("the view does not show the approval")
			}
			return Admit(w.fence, w.view(), w.nodes[0].Node)
		},
		check: func(w *world, _ int64) { w.wantValue(w.member(0), "in") },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"admitted meanwhile", func(w *world) { w.put(w.member(0), "in") }, ClassConflict},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"cordoned", func(w *world) { w.put(CordonKey(w.site, w.nodes[0].Node), "{}") }, ClassConflict},
			{"dead", func(w *world) { w.del(LiveKey(w.nodes[0].Node)) }, ClassNotLive},
			{"never joined", func(w *world) { w.del(JoinKey(w.nodes[0].Node)) }, ClassNotLive},
			{"the approval was taken back", func(w *world) { w.del(ApprovalKey(w.site, w.nodes[0].Node)) }, ClassNotMember},
		},
	},
	{
		name:    "T12 the end of a freeze",
		prepare: func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op", Until: day})) },
		make:    func(w *world) Txn { return Thaw(w.fence, w.view()) },
		check:   func(w *world, _ int64) { w.wantValue(FreezeKey(w.site), "") },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"frozen anew", func(w *world) { w.again(FreezeKey(w.site)) }, ClassConflict},
		},
	},
	{
		name: "T2 request that overrides freeze and verdict",
		prepare: func(w *world) {
			w.put(FreezeKey(w.site), encode(Freeze{By: "op"}))
			w.put(VerdictKey(w.site, w.r1), "bad 404s")
		},
		make: func(w *world) Txn {
			return Request(w.view(), Desired{Request: "01REQ3", Mode: FlipTo, Release: w.r1, By: "op@example", At: day, Override: []Override{OverrideFreeze, OverrideVerdict}})
		},
		check: func(w *world, _ int64) {
			d := w.view().Desired.Value
			if d.OverFreeze != w.get(FreezeKey(w.site)).Mod || d.OverVerdict != w.get(VerdictKey(w.site, w.r1)).Mod {
				w.t.Errorf("it overrides the freeze of revision %d and the verdict of %d", d.OverFreeze, d.OverVerdict)
			}
		},
		breaches: []breach{
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"another verdict, in the same words", func(w *world) { w.again(VerdictKey(w.site, w.r1)) }, ClassYanked},
			{"another freeze", func(w *world) { w.again(FreezeKey(w.site)) }, ClassFrozen},
		},
	},
	{
		name: "T6 flip that overrides freeze and verdict",
		prepare: func(w *world) {
			w.put(FreezeKey(w.site), encode(Freeze{By: "op"}))
			w.put(VerdictKey(w.site, w.r2), "bad 404s")
			d := w.view().Desired.Value
			d.Override = []Override{OverrideFreeze, OverrideVerdict}
			w.put(DesiredKey(w.site), encode(d.seen(w.view())))
		},
		make:     func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.next(v)) },
		check:    func(w *world, rev int64) { w.wantMod(ActiveKey(w.site), rev) },
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.again(FreezeKey(w.site)) }),
	},
	{
		name:    "T6 flip that wants all to live",
		prepare: func(w *world) { w.setPolicy(func(p *Policy) { p.RequireLive = true }) },
		make:    func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.next(v)) },
		check:   func(w *world, rev int64) { w.wantMod(ActiveKey(w.site), rev) },
		breaches: append(flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }),
			breach{"the first died", func(w *world) { w.del(LiveKey(w.nodes[0].Node)) }, ClassNotLive},
			breach{"the second died", func(w *world) { w.del(LiveKey(w.nodes[1].Node)) }, ClassNotLive}),
	},
}

// TestOverride_onlyWhatWasSeen: what a request is to get past is what stood when
// it was made.
func TestOverride_onlyWhatWasSeen(t *testing.T) {
	v := newView("www", 1)
	d := Desired{Request: "r", Mode: Publish, Release: id(1), Override: []Override{OverrideFreeze, OverrideVerdict}}
	if v.Frozen(d.seen(v)) || v.Judged(d.seen(v)) != "" {
		t.Error("forbidden, where nothing forbids it")
	}
	before := d.seen(v)
	v.Freeze = Entry[Freeze]{Mod: 7, Create: 7}
	v.Verdicts[id(1)] = Entry[string]{Value: "bad", Mod: 8, Create: 8}
	if !v.Frozen(before) || v.Judged(before) != "bad" {
		t.Error("it overrides what came after it")
	}
	if v.Frozen(d.seen(v)) || v.Judged(d.seen(v)) != "" {
		t.Error("it does not override what stands")
	}
	if d := (Desired{Mode: Publish, Release: id(1)}).seen(v); !v.Frozen(d) || v.Judged(d) != "bad" {
		t.Error("a request that overrides nothing passes")
	}
}

// TestOutBatch: a batch fits into one transaction, however many buffers nodes
// claim.
func TestOutBatch(t *testing.T) {
	for _, buffers := range []int{0, 3, MaxBuffers} {
		v := newView("www", 1)
		var nodes []release.NodeID
		for i := range 60 {
			n := release.NodeID(fmt.Sprintf("n%02d", i))
			nodes = append(nodes, n)
			v.Members[n] = Entry[Member]{Value: MemberIn, Mod: 1, Create: 1}
			for k := range buffers {
				v.Claims = append(v.Claims, Claim{Node: n, Group: "main", Buffer: k})
			}
		}
		batch := v.OutBatch(nodes)
		txn := Out(Fence{}, v, batch, "test")
		if len(batch) == 0 || len(batch) > OutAtOnce || len(txn.Ops) > mostOps || len(txn.Guards) > mostOps {
			t.Errorf("%d buffers: %d nodes, %d operations, %d guards", buffers, len(batch), len(txn.Ops), len(txn.Guards))
		}
		if buffers == 3 && len(batch) != OutAtOnce {
			t.Errorf("only %d nodes of 3 buffers at once", len(batch))
		}
		if w := v.OutBatch(nodes[:2]); !slices.Equal(w, nodes[:2]) {
			t.Errorf("of two nodes: %v", w)
		}
	}
}

// TestRoster_names: the reason names some nodes and counts the others.
func TestRoster_names(t *testing.T) {
	w := newWorld(t, dial(t))
	v := w.view()
	var nodes []release.NodeID
	for i := range 9 {
		nodes = append(nodes, release.NodeID(fmt.Sprintf("n%d", i)))
	}
	if why := Drain(w.fence, v, nodes, "late").Mark.Value; !strings.Contains(why, "drain n0, n1, n2, n3, n4, and 4 more: late") {
		t.Error(why)
	}
}
