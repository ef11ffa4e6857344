package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// breach makes one guard of a transaction false, after the view was read on
// which the transaction rests.
type breach struct {
	what  string
	do    func(w *world)
	class Class
}

// txnTest is one transaction: how it is made from a world, what it leaves
// behind, and one breach at least for each of its guards.
type txnTest struct {
	name     string
	prepare  func(w *world) // before the view is read
	make     func(w *world) Txn
	check    func(w *world, rev int64)
	breaches []breach
}

// txnTests has a row for each transaction.
var txnTests = []txnTest{
	{
		name: "T0 create site",
		make: func(w *world) Txn {
			catalog, err := getEntry[Catalog](w.t.Context(), w.c, CatalogKey)
			if err != nil {
				w.t.Fatal(err)
			}
			return CreateSite("new-"+w.site, DefaultPolicy(), catalog)
		},
		check: func(w *world, rev int64) {
			for _, k := range []string{ConfigKey("new-" + w.site), SeqKey("new-" + w.site), RosterKey("new-" + w.site), CatalogKey} {
				w.wantMod(k, rev)
			}
			w.wantValue(SeqKey("new-"+w.site), "0")
		},
		breaches: []breach{
			{"the site exists", func(w *world) { w.put(ConfigKey("new-"+w.site), encode(DefaultPolicy())) }, ClassExists},
			{"another site was made", func(w *world) { w.again(CatalogKey) }, ClassConflict},
		},
	},
	{
		name:    "T1 register",
		prepare: func(w *world) { w.put(UploadKey(w.site, "01REQ"), "{}") },
		make: func(w *world) Txn {
			v := w.view()
			return Register(w.site, v.Seq, v.GC, id(3), record(3))
		},
		check: func(w *world, _ int64) {
			w.wantValue(SeqKey(w.site), "3")
			w.wantValue(ReleaseKey(w.site, id(3)), encode(record(3)))
		},
		breaches: []breach{
			{"another release took the number", func(w *world) { w.put(SeqKey(w.site), "3") }, ClassConflict},
			{"the release exists", func(w *world) { w.put(ReleaseKey(w.site, id(3)), encode(record(4))) }, ClassExists},
			{"a sweep began", func(w *world) { w.put(GCKey, encode(GC{Gen: 1, Phase: GCIdle, Since: day})) }, ClassSweeping},
			{"the upload's marker ran out", func(w *world) { w.del(UploadKey(w.site, "01REQ")) }, ClassUploadExpired},
		},
	},
	{
		name: "T17a begin a sweep",
		prepare: func(w *world) {
			w.del(uploadsPrefix, clientv3.WithPrefix())
			w.idleAfter()
		},
		make: func(w *world) Txn {
			return BeginSweep(w.view().GC, GC{Gen: 99, Phase: GCIdle, Since: day, By: "op", ID: "01SWEEP", Holds: 7})
		},
		check: func(w *world, rev int64) {
			gen := w.view().GC.Value.Gen
			w.wantValue(GCKey, fmt.Sprintf(`{"gen":%d,"phase":"sweep","since":"2026-11-22T19:58:00Z","by":"op","id":"01SWEEP"}`, gen))
			w.wantMod(GCKey, rev)
		},
		breaches: []breach{
			{"another sweep began", func(w *world) { w.put(GCKey, encode(GC{Phase: GCSweep})) }, ClassSweeping},
			{"a publisher is at work", func(w *world) { w.put(UploadKey("elsewhere", "01OTHER"), `{"host":"ci-1"}`) }, ClassUploading},
		},
	},
	{
		name: "T17 await the first sweep",
		prepare: func(w *world) {
			w.del(uploadsPrefix, clientv3.WithPrefix())
			w.del(GCKey)
			w.idleAfter()
		},
		make:  func(*world) Txn { return AwaitSweep(day) },
		check: func(w *world, _ int64) { w.wantValue(GCKey, `{"gen":0,"phase":"idle","since":"2026-11-22T19:58:00Z"}`) },
		breaches: []breach{
			{"there was one", func(w *world) { w.put(GCKey, encode(GC{Phase: GCIdle})) }, ClassSweeping},
			{"a publisher is at work", func(w *world) { w.put(UploadKey("elsewhere", "01OTHER"), `{"host":"ci-1"}`) }, ClassUploading},
		},
	},
	{
		name:    "T17 hold a sweep",
		prepare: func(w *world) { w.sweeping() },
		make:    func(w *world) Txn { return HoldSweep(w.view().GC) },
		check: func(w *world, rev int64) {
			w.wantMod(GCKey, rev)
			if g := w.view().GC.Value; g.Holds != 1 || g.Phase != GCSweep {
				w.t.Errorf("held as %+v", g)
			}
		},
		breaches: []breach{{"taken over", func(w *world) { w.again(GCKey) }, ClassSweeping}},
	},
	{
		name: "T17b forget",
		prepare: func(w *world) {
			w.sweeping()
			w.put(ReleaseKey(w.site, id(3)), encode(record(3)))
			w.put(ReleaseKey(w.site, id(4)), encode(record(4)))
		},
		make: func(w *world) Txn {
			v := w.view()
			return Forget(v.GC, v, []release.ID{id(3), id(4)})
		},
		check: func(w *world, rev int64) {
			if n := len(w.view().Releases); n != 2 {
				w.t.Errorf("%d releases are left, want the 2 others", n)
			}
			w.wantMod(GCKey, rev)
		},
		breaches: []breach{
			{"taken over", func(w *world) { w.again(GCKey) }, ClassSweeping},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"a rollout started", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"somebody asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"the first is gone", func(w *world) { w.del(ReleaseKey(w.site, id(3))) }, ClassReleaseGone},
			{"the first was pinned", func(w *world) { w.put(PinKey(w.site, id(3)), "for the auditors") }, ClassConflict},
			{"the second was pinned", func(w *world) { w.put(PinKey(w.site, id(4)), "for the auditors") }, ClassConflict},
			{"the second was made anew", func(w *world) { w.anew(ReleaseKey(w.site, id(4))) }, ClassReleaseGone},
		},
	},
	{
		name:    "T17c end a sweep",
		prepare: func(w *world) { w.sweeping() },
		make:    func(w *world) Txn { return EndSweep(w.view().GC, day.Add(time.Hour)) },
		check: func(w *world, rev int64) {
			w.wantMod(GCKey, rev)
			if g := w.view().GC.Value; g.Phase != GCIdle || g.ID != "01SWEEP" || !g.Since.Equal(day.Add(time.Hour)) {
				w.t.Errorf("ended as %+v", g)
			}
		},
		breaches: []breach{{"it went on", func(w *world) { w.again(GCKey) }, ClassSweeping}},
	},
	{
		name: "T2 request",
		make: func(w *world) Txn {
			return Request(w.view(), Desired{Request: "01REQ3", Mode: FlipTo, Release: w.r1, By: "op@example", At: day})
		},
		check: func(w *world, rev int64) {
			w.wantMod(DesiredKey(w.site), rev)
			if v := w.view(); len(v.Desired.Value.Replaces) != 1 || v.Desired.Value.Replaces[0] != "01REQ2" {
				w.t.Errorf("replaces %v, want the request under way", v.Desired.Value.Replaces)
			}
		},
		breaches: []breach{
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"the release was yanked", func(w *world) { w.put(VerdictKey(w.site, w.r1), "yanked by op") }, ClassYanked},
			{"the site was frozen", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }, ClassFrozen},
		},
	},
	{
		name: "T2 abort",
		make: func(w *world) Txn {
			return Request(w.view(), Desired{Request: "01REQ3", Mode: Abort, By: "op@example", At: day})
		},
		check: func(w *world, rev int64) { w.wantMod(DesiredKey(w.site), rev) },
		breaches: []breach{
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
		},
	},
	{
		name:    "T2 rollback under a freeze that allows it",
		prepare: func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op", AllowRollback: true})) },
		make: func(w *world) Txn {
			return Request(w.view(), Desired{Request: "01REQ3", Mode: Rollback, Release: w.r1, By: "op@example", At: day})
		},
		check: func(w *world, rev int64) { w.wantMod(DesiredKey(w.site), rev) },
		breaches: []breach{
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"the release was yanked", func(w *world) { w.put(VerdictKey(w.site, w.r1), "yanked") }, ClassYanked},
			{"another freeze", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op2"})) }, ClassFrozen},
		},
	},
	{
		name:    "T3 start rollout",
		prepare: func(w *world) { w.del(RolloutKey(w.site)) },
		make: func(w *world) Txn {
			return StartRollout(w.fence, w.view(), Rollout{Release: w.r2, Buffer: 1, Flip: "01F", Started: day, Deadline: day.Add(time.Hour), Request: "01REQ2"})
		},
		check: func(w *world, rev int64) { w.wantMod(RolloutKey(w.site), rev) },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"a rollout started", func(w *world) { w.put(RolloutKey(w.site), "{}") }, ClassRolloutChanged},
			{"the request has ended", func(w *world) { w.put(ResultKey(w.site, "01REQ2"), "{}") }, ClassConflict},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"the site was frozen", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }, ClassFrozen},
			{"the release was yanked", func(w *world) { w.put(VerdictKey(w.site, w.r2), "bad") }, ClassYanked},
		},
	},
	{
		name: "T4 retract",
		make: func(w *world) Txn { return Retract(w.nodes[0], w.nodeView()) },
		check: func(w *world, _ int64) {
			w.wantValue(ClaimKey(w.site, 1, "main", w.nodes[0].Node), NoClaim)
			w.wantValue(ClaimKey(w.site, 1, "main", w.nodes[1].Node), string(w.r2))
		},
		breaches: []breach{
			{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"no rollout", func(w *world) { w.del(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"put out", func(w *world) { w.put(MemberKey(w.site, w.nodes[0].Node), "out") }, ClassNotMember},
			{"put out and let in", func(w *world) { w.again(MemberKey(w.site, w.nodes[0].Node)) }, ClassNotMember},
			{"another process has the node id", func(w *world) { w.put(LiveKey(w.nodes[0].Node), encode(Live{Boot: "01OTHER"})) }, ClassNotLive},
			{"another turn", func(w *world) { w.put(TurnKey(w.nodes[0].Node, w.site), "01TURN") }, ClassConflict},
			{"the claim was written since", func(w *world) { w.again(ClaimKey(w.site, 1, "main", w.nodes[0].Node)) }, ClassConflict},
		},
	},
	{
		name:    "T5 claim",
		prepare: func(w *world) { w.put(ClaimKey(w.site, 1, "main", w.nodes[0].Node), NoClaim) },
		make:    func(w *world) Txn { return ClaimReady(w.nodes[0], w.nodeView()) },
		check: func(w *world, _ int64) {
			w.wantValue(ClaimKey(w.site, 1, "main", w.nodes[0].Node), string(w.r2))
		},
		breaches: []breach{
			{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"no member any more", func(w *world) { w.del(MemberKey(w.site, w.nodes[0].Node)) }, ClassNotMember},
			{"another process has the node id", func(w *world) { w.put(LiveKey(w.nodes[0].Node), encode(Live{Boot: "01OTHER"})) }, ClassNotLive},
			{"another turn", func(w *world) { w.put(TurnKey(w.nodes[0].Node, w.site), "01TURN") }, ClassConflict},
			{"the claim was written since", func(w *world) { w.again(ClaimKey(w.site, 1, "main", w.nodes[0].Node)) }, ClassConflict},
			{"claims were taken away", func(w *world) { w.del(ClaimKey(w.site, 1, "main", w.nodes[0].Node)) }, ClassConflict},
		},
	},
	{
		name: "T6 flip",
		make: func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.next(v)) },
		check: func(w *world, rev int64) {
			for _, k := range []string{ActiveKey(w.site), HistoryKey(w.site, 8), ResultKey(w.site, "01REQ2")} {
				w.wantMod(k, rev)
			}
			if w.get(RolloutKey(w.site)).Create != 0 {
				w.t.Error("the rollout still stands")
			}
			if v := w.view(); v.Active.Value.Release != w.r2 || v.Active.Value.Epoch != 8 || !v.Done() {
				w.t.Errorf("active %+v, results %v", v.Active.Value, v.Results)
			}
		},
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op", AllowRollback: true})) }),
	},
	{
		name: "T7 rollback under a freeze that allows it",
		prepare: func(w *world) {
			w.put(FreezeKey(w.site), encode(Freeze{By: "op", AllowRollback: true}))
			w.put(DesiredKey(w.site), encode(Desired{Request: "01REQ2", Mode: Rollback, Release: w.r2, At: day}))
		},
		make: func(w *world) Txn {
			v := w.view()
			a := w.next(v)
			a.Kind = Rollback
			return Flip(w.fence, v, a)
		},
		check:    func(w *world, rev int64) { w.wantMod(ActiveKey(w.site), rev) },
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }),
	},
	{
		name: "T7 rollback that freezes",
		prepare: func(w *world) {
			w.put(DesiredKey(w.site), encode(Desired{Request: "01REQ2", Mode: Rollback, Release: w.r2, Freeze: true, At: day}))
		},
		make: func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.next(v)) },
		check: func(w *world, rev int64) {
			w.wantMod(FreezeKey(w.site), rev)
			if v := w.view(); !v.Freeze.Value.AllowRollback {
				w.t.Error("the freeze forbids to roll back further")
			}
		},
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }),
	},
	{
		name: "T7 rollback that freezes what is frozen until a time",
		prepare: func(w *world) {
			w.put(FreezeKey(w.site), encode(Freeze{By: "op", Reason: "deploy stop", Until: day, AllowRollback: true}))
			w.put(DesiredKey(w.site), encode(Desired{Request: "01REQ2", Mode: Rollback, Release: w.r2, Freeze: true, At: day}))
		},
		make: func(w *world) Txn {
			v := w.view()
			a := w.next(v)
			a.Kind = Rollback
			return Flip(w.fence, v, a)
		},
		check: func(w *world, rev int64) {
			w.wantMod(FreezeKey(w.site), rev)
			if z := w.view().Freeze.Value; !z.Until.IsZero() || !strings.Contains(z.Reason, "frozen until "+day.Format(time.RFC3339)+" by op: deploy stop") {
				w.t.Errorf("frozen until %v: %q", z.Until, z.Reason)
			}
		},
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }),
	},
	{
		name:    "T7 revert",
		prepare: (*world).onTrial,
		make: func(w *world) Txn {
			v := w.view()
			a := Active{Release: w.r1, Epoch: 9, Buffer: 0, Kind: KindRevert, Flip: "01FLIP3", Manifest: record(1).Manifest, At: day, By: "manager",
				Previous: &Held{Release: w.r2, Buffer: 1}}
			return Revert(w.fence, v, a, "not confirmed within 5s")
		},
		check: func(w *world, rev int64) {
			for _, k := range []string{ActiveKey(w.site), HistoryKey(w.site, 9), ResultKey(w.site, "01REQ2"), VerdictKey(w.site, w.r2)} {
				w.wantMod(k, rev)
			}
			v := w.view()
			if v.Active.Value.Release != w.r1 || v.Results["01REQ2"].State != StateReverted || v.Verdicts[w.r2].Value != "bad not confirmed within 5s" || v.OnTrial() {
				w.t.Errorf("active %+v, results %v, verdicts %v", v.Active.Value, v.Results, v.Verdicts)
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"it was confirmed", func(w *world) { w.put(ConfirmedKey(w.site), "8") }, ClassConflict},
			{"it has baked", func(w *world) { w.put(BakedKey(w.site), "8") }, ClassConflict},
			{"a freeze", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }, ClassFrozen},
			{"the one before was yanked", func(w *world) { w.put(VerdictKey(w.site, w.r1), "yanked") }, ClassYanked},
			{"the one before is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"the bad one is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r2)) }, ClassReleaseGone},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"a member was removed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
			{"one node retracted", func(w *world) { w.put(ClaimKey(w.site, 0, "main", w.nodes[0].Node), NoClaim) }, ClassNotReady},
			{"nobody claims anything", func(w *world) { w.del(ClaimsPrefix(w.site, 0), clientv3.WithPrefix()) }, ClassNotReady},
		},
	},
	{
		name:    "T7 confirm",
		prepare: (*world).onTrial,
		make:    func(w *world) Txn { return Confirm(w.view()) },
		check: func(w *world, _ int64) {
			w.wantValue(ConfirmedKey(w.site), "8")
			if w.view().OnTrial() {
				w.t.Error("what was confirmed is still on trial")
			}
		},
		breaches: []breach{
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"somebody was first", func(w *world) { w.put(ConfirmedKey(w.site), "8") }, ClassConflict},
		},
	},
	{
		name:    "end a bake",
		prepare: (*world).bakes,
		make:    func(w *world) Txn { return EndBake(w.fence, w.view()) },
		check: func(w *world, _ int64) {
			w.wantValue(BakedKey(w.site), "8")
			if w.view().Baking() {
				w.t.Error("it bakes on")
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"somebody was first", func(w *world) { w.put(BakedKey(w.site), "8") }, ClassConflict},
		},
	},
	{
		name: "T8 end",
		make: func(w *world) Txn {
			return End(w.fence, w.view(), Result{State: StateFailed, Release: w.r2, At: day, Error: &ErrorInfo{Class: ClassNotReady, Text: "1 of 2"}})
		},
		check: func(w *world, rev int64) {
			w.wantMod(ResultKey(w.site, "01REQ2"), rev)
			if w.get(RolloutKey(w.site)).Create != 0 || !w.view().Done() {
				w.t.Error("the rollout or the request still stands")
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"the request has ended", func(w *world) { w.put(ResultKey(w.site, "01REQ2"), "{}") }, ClassConflict},
			{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
		},
	},
	{
		name:    "T10 admit",
		prepare: func(w *world) { w.del(MemberKey(w.site, w.nodes[0].Node)) },
		make:    func(w *world) Txn { return Admit(w.fence, w.view(), w.nodes[0].Node) },
		check: func(w *world, _ int64) {
			w.wantValue(MemberKey(w.site, w.nodes[0].Node), "in")
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"put out", func(w *world) { w.put(MemberKey(w.site, w.nodes[0].Node), "out") }, ClassConflict},
			{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
			{"cordoned", func(w *world) { w.put(CordonKey(w.site, w.nodes[0].Node), "{}") }, ClassConflict},
			{"dead", func(w *world) { w.del(LiveKey(w.nodes[0].Node)) }, ClassNotLive},
			{"never joined", func(w *world) { w.del(JoinKey(w.nodes[0].Node)) }, ClassNotLive},
		},
	},
	{
		name: "T11 enter",
		make: func(w *world) Txn { return Enter(w.nodes[0], w.nodeView(), []release.ID{w.r1, "", w.r2}) },
		check: func(w *world, _ int64) {
			n := w.nodes[0].Node
			w.wantValue(ClaimKey(w.site, 0, "main", n), string(w.r1))
			w.wantValue(ClaimKey(w.site, 1, "main", n), NoClaim)
			w.wantValue(ClaimKey(w.site, 2, "main", n), string(w.r2))
			for k := 3; k < MaxBuffers; k++ {
				w.wantValue(ClaimKey(w.site, k, "main", n), NoClaim)
			}
		},
		breaches: append(claimsWritten(), []breach{
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"put out", func(w *world) { w.put(MemberKey(w.site, w.nodes[0].Node), "out") }, ClassNotMember},
			{"another process has the node id", func(w *world) { w.put(LiveKey(w.nodes[0].Node), encode(Live{Boot: "01OTHER"})) }, ClassNotLive},
			{"another turn", func(w *world) { w.put(TurnKey(w.nodes[0].Node, w.site), "01TURN") }, ClassConflict},
		}...),
	},
	{
		name: "T11a lower",
		make: func(w *world) Txn { return Lower(w.nodes[0], w.nodeView(), []int{0, 1}) },
		check: func(w *world, _ int64) {
			w.wantValue(ClaimKey(w.site, 0, "main", w.nodes[0].Node), NoClaim)
			w.wantValue(ClaimKey(w.site, 1, "main", w.nodes[0].Node), NoClaim)
			w.wantValue(LoweredKey(w.nodes[0].Node, w.site), `{"buffers":[0,1],"boot":"01BOOT"}`)
		},
		breaches: []breach{
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"no rollout", func(w *world) { w.del(RolloutKey(w.site)) }, ClassRolloutChanged},
			{"put out", func(w *world) { w.put(MemberKey(w.site, w.nodes[0].Node), "out") }, ClassNotMember},
			{"never entered with buffer 0", func(w *world) { w.del(ClaimKey(w.site, 0, "main", w.nodes[0].Node)) }, ClassConflict},
			{"never entered with buffer 1", func(w *world) { w.del(ClaimKey(w.site, 1, "main", w.nodes[0].Node)) }, ClassConflict},
			{"another process has the node id", func(w *world) { w.put(LiveKey(w.nodes[0].Node), encode(Live{Boot: "01OTHER"})) }, ClassNotLive},
			{"another turn", func(w *world) { w.put(TurnKey(w.nodes[0].Node, w.site), "01TURN") }, ClassConflict},
		},
	},
	{
		name: "T12 freeze",
		make: func(w *world) Txn { return SetFreeze(w.site, w.view().Freeze, &Freeze{By: "op", At: day}) },
		check: func(w *world, rev int64) {
			w.wantMod(FreezeKey(w.site), rev)
		},
		breaches: []breach{{"somebody else froze", func(w *world) { w.put(FreezeKey(w.site), "{}") }, ClassConflict}},
	},
	{
		name:     "T12 unfreeze",
		prepare:  func(w *world) { w.put(FreezeKey(w.site), "{}") },
		make:     func(w *world) Txn { return SetFreeze(w.site, w.view().Freeze, nil) },
		check:    func(w *world, _ int64) { w.wantValue(FreezeKey(w.site), "") },
		breaches: []breach{{"another freeze", func(w *world) { w.again(FreezeKey(w.site)) }, ClassConflict}},
	},
	{
		name:  "note what the hook was told",
		make:  func(w *world) Txn { return NoteTold(w.fence, w.view(), 7) },
		check: func(w *world, _ int64) { w.wantValue(ToldKey(w.site), "7") },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"nobody leads", func(w *world) { w.del(w.fence.Key) }, ClassNotLeader},
			{"noted already", func(w *world) { w.put(ToldKey(w.site), "8") }, ClassConflict},
		},
	},
	{
		name:    "trim history",
		prepare: func(w *world) { w.put(HistoryKey(w.site, 1), "{}") },
		make:    func(w *world) Txn { return TrimHistory(w.fence, w.site, []string{HistoryKey(w.site, 1)}) },
		check:   func(w *world, _ int64) { w.wantValue(HistoryKey(w.site, 1), "") },
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"nobody leads", func(w *world) { w.del(w.fence.Key) }, ClassNotLeader},
		},
	},
}

// onTrial makes the release that is asked for active, on trial.
func (w *world) onTrial() {
	a := w.next(w.view())
	a.ConfirmBy = day.Add(5 * time.Second)
	w.put(ActiveKey(w.site), encode(a))
	w.put(ResultKey(w.site, "01REQ2"), encode(Result{State: StateActive, Release: w.r2, Epoch: 8, Changed: true, At: day}))
	w.del(RolloutKey(w.site))
	if !w.view().OnTrial() {
		w.t.Fatal("it is not on trial")
	}
}

// bakes makes the release that is asked for active, and it bakes.
func (w *world) bakes() {
	a := w.next(w.view())
	a.Bake = &Bake{Seconds: 60, MostBadNodes: "0"}
	w.put(ActiveKey(w.site), encode(a))
	if v := w.view(); !v.Baking() || !v.Active.Value.BakeEnd().Equal(a.At.Add(60*time.Second)) {
		w.t.Fatalf("it does not bake: %+v", v.Active.Value)
	}
}

func flipBreaches(frozen Class, freeze func(w *world)) []breach {
	return []breach{
		{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
		{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
		{"another rollout", func(w *world) { w.again(RolloutKey(w.site)) }, ClassRolloutChanged},
		{"aborted", func(w *world) { w.del(RolloutKey(w.site)) }, ClassRolloutChanged},
		{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
		{"the request has ended", func(w *world) { w.put(ResultKey(w.site, "01REQ2"), "{}") }, ClassConflict},
		{"another freeze", freeze, frozen},
		{"the release was yanked", func(w *world) { w.put(VerdictKey(w.site, w.r2), "yanked") }, ClassYanked},
		{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r2)) }, ClassReleaseGone},
		{"the release was made anew", func(w *world) { w.anew(ReleaseKey(w.site, w.r2)) }, ClassReleaseGone},
		{"the policy changed", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged},
		{"a member was removed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
		{"one node retracted", func(w *world) { w.put(ClaimKey(w.site, 1, "main", w.nodes[0].Node), NoClaim) }, ClassNotReady},
		{"one node holds another release", func(w *world) { w.put(ClaimKey(w.site, 1, "main", w.nodes[1].Node), string(w.r1)) }, ClassNotReady},
		{"a node of another group came late", func(w *world) { w.put(ClaimKey(w.site, 1, "aaa", "late"), NoClaim) }, ClassNotReady},
		{"nobody claims anything", func(w *world) { w.del(ClaimsPrefix(w.site, 1), clientv3.WithPrefix()) }, ClassNotReady},
	}
}

// claimsWritten are writes of each claim of a node since it read them.
func claimsWritten() (all []breach) {
	for k := range MaxBuffers {
		all = append(all, breach{
			fmt.Sprintf("the claim of buffer %d was written since", k),
			func(w *world) { w.again(ClaimKey(w.site, k, "main", w.nodes[0].Node)) }, ClassConflict,
		})
	}
	return all
}

// TestTxn_eachGuardMatters: a transaction commits when nothing has changed,
// and is refused when one single thing has, by the guard that is about it.
// Every guard of every transaction is the one that refuses, in some breach.
func TestTxn_eachGuardMatters(t *testing.T) {
	c := dial(t)
	for _, tt := range slices.Concat(txnTests, canaryTests, rosterTests, operatorTests) {
		ready := func(t *testing.T) (*world, Txn) {
			t.Helper()
			w := newWorld(t, c)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			return w, tt.make(w)
		}
		t.Run(tt.name, func(t *testing.T) {
			w, txn := ready(t)
			tt.check(w, w.commit(txn))
			proven := map[Guard]bool{}
			for _, b := range tt.breaches {
				t.Run(b.what, func(t *testing.T) {
					w, txn := ready(t)
					b.do(w)
					r := w.refused(txn, b.class)
					if !strings.HasPrefix(r.Error(), txn.Name+": "+string(b.class)+": ") {
						t.Errorf("error text %q", r)
					}
					for i, g := range txn.Guards {
						if g == r.Guard {
							proven[w.plain(i, g)] = true
						}
					}
				})
			}
			for i, g := range txn.Guards {
				if !proven[w.plain(i, g)] {
					t.Errorf("no breach is refused by the guard %+v", g)
				}
			}
		})
	}
}

// plain is a guard without what differs between worlds: its place and class.
func (w *world) plain(i int, g Guard) Guard { return Guard{Rev: int64(i), Class: g.Class} }

// sweeping has a sweep under way, until the test ends.
func (w *world) sweeping() {
	w.put(GCKey, encode(GC{Gen: 5, Phase: GCSweep, Since: day, By: "op", ID: "01SWEEP"}))
	w.idleAfter()
}

// idleAfter leaves no sweep to the tests that share the member.
func (w *world) idleAfter() {
	w.t.Cleanup(func() {
		if _, err := w.c.kv.Put(context.WithoutCancel(w.t.Context()), GCKey, encode(GC{Gen: 6, Phase: GCIdle})); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) wantMod(key string, rev int64) {
	w.t.Helper()
	if p := w.get(key); p.Mod != rev {
		w.t.Errorf("%s was written at %d, want %d", key, p.Mod, rev)
	}
}

func (w *world) wantValue(key, value string) {
	w.t.Helper()
	if p := w.get(key); p.Value != value {
		w.t.Errorf("%s is %q, want %q", key, p.Value, value)
	}
}

func TestFlip_refusalNamesTheLaggards(t *testing.T) {
	w := newWorld(t, dial(t))
	v := w.view()
	txn := Flip(w.fence, v, w.next(v))
	for i := range 30 {
		w.put(ClaimKey(w.site, 1, "main", release.NodeID("late-"+string(rune('a'+i%26))+string(rune('a'+i/26)))), NoClaim)
	}
	r := w.refused(txn, ClassNotReady)
	if !strings.Contains(r.Error(), `main/late-aa is "-"`) || !strings.Contains(r.Error(), "and 10 more") || strings.Contains(r.Error(), string(w.nodes[0].Node)) {
		t.Errorf("error %q", r)
	}
}

// TestFlip_unregistered: a view without the release cannot make a flip to it.
func TestFlip_unregistered(t *testing.T) {
	w := newWorld(t, dial(t))
	w.del(ReleaseKey(w.site, w.r2))
	v := w.view()
	_ = w.refused(Flip(w.fence, v, w.next(v)), ClassReleaseGone)
}

// TestFence_zero: a fence that was never won passes nothing.
func TestFence_zero(t *testing.T) {
	w := newWorld(t, dial(t))
	_ = w.refused(TrimHistory(Fence{Key: ElectionPrefix + "/nobody"}, w.site, []string{HistoryKey(w.site, 1)}), ClassNotLeader)
}

func TestEnd_abortWritesBothResults(t *testing.T) {
	w := newWorld(t, dial(t))
	w.commit(Request(w.view(), Desired{Request: "01ABORT", Mode: Abort, By: "op", At: day}))
	w.commit(End(w.fence, w.view(), Result{State: StateAborted, At: day}))
	v := w.view()
	if v.Results["01REQ2"].State != StateAborted || v.Results["01ABORT"].State != StateAborted || v.Rollout.Exists() {
		t.Errorf("results %+v, rollout %+v", v.Results, v.Rollout)
	}
}

// TestRequest_replaces: what a request takes the place of is bounded, and what
// has ended is not in it.
func TestRequest_replaces(t *testing.T) {
	v := newView("www", 1)
	v.Desired = Entry[Desired]{Create: 1, Mod: 1, Value: Desired{Request: "r0"}}
	for i := range 150 {
		d := Desired{Request: RequestID("r" + string(rune('A'+i))), Mode: Publish}
		txn := Request(v, d)
		if err := decode("desired", []byte(txn.Mark.Value), &d); err != nil {
			t.Fatal(err)
		}
		v.Desired.Value = d
	}
	if n := len(v.Desired.Value.Replaces); n != mostReplaced {
		t.Errorf("replaces %d requests", n)
	}
	if n := len(Flip(Fence{}, v, Active{}).Ops); n > 128 {
		t.Errorf("a flip of %d operations", n)
	}
	for _, r := range v.Desired.Value.Replaces[1:] {
		v.Results[r] = Result{State: StateSuperseded}
	}
	if got := replaced(v); len(got) != 2 || got[0] != v.Desired.Value.Replaces[0] || got[1] != v.Desired.Value.Request {
		t.Errorf("still replaces %v", got)
	}
}

// TestEnd_wrongReplaces: a request ends that says that it takes the place of
// itself, of one request twice, or of more than can end at once.
func TestEnd_wrongReplaces(t *testing.T) {
	w := newWorld(t, dial(t))
	d := Desired{Request: "01REQ3", Mode: Publish, Release: w.r2, Replaces: []RequestID{"01REQ3", "01REQ2", "01REQ2"}}
	for i := range 150 {
		d.Replaces = append(d.Replaces, RequestID(fmt.Sprintf("01OLD%d", i)))
	}
	w.put(DesiredKey(w.site), encode(d))
	w.commit(End(w.fence, w.view(), Result{State: StateFailed, At: day}))
	v := w.view()
	if v.Results["01REQ3"].State != StateFailed || v.Results["01OLD149"].State != StateSuperseded || len(v.Results) > 1+mostReplaced {
		t.Errorf("%d results, of the request %+v", len(v.Results), v.Results["01REQ3"])
	}
}
