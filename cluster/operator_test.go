package cluster

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"relman/release"
)

// operatorTests are the rows of txnTests about what operators decide.
var operatorTests = []txnTest{
	{
		name: "T16 policy",
		make: func(w *world) Txn {
			now := w.view().Policy
			p := now.Value
			p.Min = "75%"
			return SetPolicy(w.site, now, p)
		},
		check: func(w *world, _ int64) {
			if p := w.view().Policy.Value; p.Min != "75%" {
				w.t.Errorf("policy %+v", p)
			}
		},
		breaches: []breach{{"somebody else changed it", func(w *world) { w.again(ConfigKey(w.site)) }, ClassPolicyChanged}},
	},
	{
		name: "cordon",
		make: func(w *world) Txn {
			return SetCordon(w.view(), w.nodes[0].Node, &Cordon{By: "op", Reason: "new disk", At: day})
		},
		check: func(w *world, _ int64) {
			if c := w.view().Cordons[w.nodes[0].Node]; c.Value.Reason != "new disk" {
				w.t.Errorf("cordon %+v", c)
			}
		},
		breaches: []breach{{"somebody else did", func(w *world) { w.put(CordonKey(w.site, w.nodes[0].Node), "{}") }, ClassConflict}},
	},
	{
		name:     "uncordon",
		prepare:  func(w *world) { w.put(CordonKey(w.site, w.nodes[0].Node), "{}") },
		make:     func(w *world) Txn { return SetCordon(w.view(), w.nodes[0].Node, nil) },
		check:    func(w *world, _ int64) { w.wantValue(CordonKey(w.site, w.nodes[0].Node), "") },
		breaches: []breach{{"another cordon", func(w *world) { w.again(CordonKey(w.site, w.nodes[0].Node)) }, ClassConflict}},
	},
	{
		name: "approve",
		make: func(w *world) Txn { return Approve(w.site, "n9", Approval{By: "op", At: day}) },
		check: func(w *world, _ int64) {
			w.wantValue(ApprovalKey(w.site, "n9"), `{"by":"op","at":"2026-11-22T19:58:00Z"}`)
		},
		breaches: []breach{{"it is a member", func(w *world) { w.put(MemberKey(w.site, "n9"), "in") }, ClassExists}},
	},
	{
		name: "remove a node",
		prepare: func(w *world) {
			n := w.nodes[0].Node
			w.del(LiveKey(n))
			w.put(MemberKey(w.site, n), "out")
			w.put(CordonKey(w.site, n), "{}")
			w.put(LastKey(n), "{}")
			w.put(LoweredKey(n, w.site), "{}")
		},
		make: func(w *world) Txn { return RemoveNode(w.nodes[0].Node, []*View{w.view()})[0] },
		check: func(w *world, _ int64) {
			n := w.nodes[0].Node
			for _, k := range []string{MemberKey(w.site, n), CordonKey(w.site, n), JoinKey(n), LastKey(n), TurnKey(n, w.site), LoweredKey(n, w.site)} {
				w.wantValue(k, "")
			}
		},
		breaches: []breach{
			{"it came back", func(w *world) { w.put(LiveKey(w.nodes[0].Node), "{}") }, ClassConflict},
			{"it counts again", func(w *world) { w.put(MemberKey(w.site, w.nodes[0].Node), "in") }, ClassConflict},
			{"the roster changed", func(w *world) { w.again(RosterKey(w.site)) }, ClassRosterChanged},
		},
	},
	{
		name:  "judge",
		make:  func(w *world) Txn { return SetVerdict(w.view(), w.r1, Yanked, "it leaks a key") },
		check: func(w *world, _ int64) { w.wantValue(VerdictKey(w.site, w.r1), "yanked it leaks a key") },
		breaches: []breach{
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"somebody else did", func(w *world) { w.put(VerdictKey(w.site, w.r1), "bad") }, ClassConflict},
		},
	},
	{
		name:    "take a verdict back",
		prepare: func(w *world) { w.put(VerdictKey(w.site, w.r1), "bad 404s") },
		make:    func(w *world) Txn { return SetVerdict(w.view(), w.r1, "", "") },
		check:   func(w *world, _ int64) { w.wantValue(VerdictKey(w.site, w.r1), "") },
		breaches: []breach{
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"another verdict, in the same words", func(w *world) { w.again(VerdictKey(w.site, w.r1)) }, ClassConflict},
		},
	},
	{
		name: "pin",
		make: func(w *world) Txn { return SetPin(w.view(), w.r1, "for the auditors") },
		check: func(w *world, _ int64) {
			if why := w.view().Pins[w.r1].Value; why != "for the auditors" {
				w.t.Errorf("pinned: %q", why)
			}
		},
		breaches: []breach{
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"somebody else did", func(w *world) { w.put(PinKey(w.site, w.r1), "too") }, ClassConflict},
		},
	},
	{
		name:    "unpin",
		prepare: func(w *world) { w.put(PinKey(w.site, w.r1), "for the auditors") },
		make:    func(w *world) Txn { return SetPin(w.view(), w.r1, "") },
		check:   func(w *world, _ int64) { w.wantValue(PinKey(w.site, w.r1), "") },
		breaches: []breach{
			{"the release is gone", func(w *world) { w.del(ReleaseKey(w.site, w.r1)) }, ClassReleaseGone},
			{"another pin, for the same reason", func(w *world) { w.again(PinKey(w.site, w.r1)) }, ClassConflict},
		},
	},
}

// TestSetPolicy: it changes what it is told to, and nothing that makes no sense.
func TestSetPolicy(t *testing.T) {
	w := newWorld(t, dial(t))
	ctx := within(t, 20*time.Second)
	p, err := w.c.SetPolicy(ctx, w.site, func(p *Policy) error { p.GraceSeconds, p.Buffers = 5, 4; return nil })
	if err != nil || p.GraceSeconds != 5 || !reflect.DeepEqual(w.view().Policy.Value, p) {
		t.Errorf("%+v %v", p, err)
	}
	before := w.view().Policy.Mod
	for want, change := range map[string]func(p *Policy) error{
		"grace_s is -1":           func(p *Policy) error { p.GraceSeconds = -1; return nil },
		"it can only grow from 4": func(p *Policy) error { p.Buffers = 3; return nil },
		"not so":                  func(*Policy) error { return errors.New("not so") },
	} {
		if _, err := w.c.SetPolicy(ctx, w.site, change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if _, err := w.c.SetPolicy(ctx, w.site, func(*Policy) error { return nil }); err != nil || w.view().Policy.Mod != before {
		t.Errorf("written without need: %v", err)
	}
	if _, err := w.c.SetPolicy(ctx, "no-such", func(*Policy) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// TestRemoveNode_manySites: a node of many sites is forgotten in steps that fit, itself
// with the last.
func TestRemoveNode_manySites(t *testing.T) {
	var views []*View
	for i := range 3*removeAtOnce - 1 {
		views = append(views, newView(release.Site(fmt.Sprintf("site-%d", i)), 1))
	}
	txns := RemoveNode("n1", views)
	gone := map[string]int{}
	for i, txn := range txns {
		if len(txn.Guards) > mostOps || len(txn.Ops) > mostOps {
			t.Errorf("%d guards, %d operations", len(txn.Guards), len(txn.Ops))
		}
		for _, op := range txn.Ops {
			if op.Delete {
				gone[op.Key] = i
			}
		}
	}
	for _, v := range views {
		if _, is := gone[MemberKey(v.Site, "n1")]; !is {
			t.Errorf("it stays a member of %s", v.Site)
		}
	}
	if i, is := gone[JoinKey("n1")]; len(txns) != 3 || !is || i != 2 {
		t.Errorf("it is forgotten in step %d of %d", i+1, len(txns))
	}
}

// TestForget_fits: as many releases as are forgotten at once fit into one
// transaction.
func TestForget_fits(t *testing.T) {
	v := newView("www", 1)
	var ids []release.ID
	for i := range ForgetAtOnce {
		ids = append(ids, id(uint64(i+1)))
	}
	if txn := Forget(Entry[GC]{}, v, ids); len(txn.Guards) > mostOps || len(txn.Ops) > mostOps {
		t.Errorf("%d guards, %d operations", len(txn.Guards), len(txn.Ops))
	}
}
