package cluster

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestParseAudience(t *testing.T) {
	for text, want := range map[string]Audience{
		"5%": {Share: 500}, "0.01%": {Share: 1}, "2.5%": {Share: 250}, "99.99%": {Share: 9999}, "10.50%": {Share: 1050},
		"canary": {Group: "canary"}, "eu-1": {Group: "eu-1"},
	} {
		got, err := ParseAudience(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "%", "0%", "0.00%", "100%", "101%", "-1%", "1.234%", "a%", "1.x%", "300%", "5", "A", "a/b", "1e1%"} {
		if got, err := ParseAudience(text); err == nil && got.Group != "5" { // a group can have that name
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
	for _, a := range []Audience{{}, {Share: 1, Group: "x"}} {
		if a.Validate() == nil {
			t.Errorf("%+v is valid", a)
		}
	}
}

// TestCanary_value: as operators read it.
func TestCanary_value(t *testing.T) {
	c := Canary{Release: "000002-0123456789ab", Buffer: 2, Manifest: record(2).Manifest, Audience: Audience{Share: 250}, Since: 7}
	want := `{"release":"000002-0123456789ab","buffer":2,"manifest":"` + c.Manifest.String() + `","share":"2.5%","since":7}`
	raw, err := json.Marshal(c)
	if err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
	var back Canary
	if err := json.Unmarshal(raw, &back); err != nil || back != c {
		t.Errorf("%+v, %v", back, err)
	}
}

// asks makes the request of the world, 01REQ2, one of another kind.
func (w *world) asks(mode Kind) {
	d := w.view().Desired.Value
	d.Mode, d.Message = mode, "errors"
	if mode == TryOut {
		d.Canary = Audience{Share: 500}
	}
	w.put(DesiredKey(w.site), encode(d))
}

// tried makes 2 a canary beside what is active, and asks for something about it.
func (w *world) tried(mode Kind) {
	a := w.view().Active.Value
	a.Canary = &Canary{Release: w.r2, Buffer: 1, Audience: Audience{Share: 500}, Since: a.Epoch}
	w.put(ActiveKey(w.site), encode(a))
	w.del(RolloutKey(w.site))
	w.asks(mode)
}

// beside is the next active value with a canary, or without one.
func (w *world) beside(v *View, c *Canary) Active {
	old := v.Active.Value
	old.Epoch, old.Flip, old.Request, old.At, old.Canary, old.Kind = old.Epoch+1, "01FLIP", "01REQ2", day, c, v.Desired.Value.Mode
	return old
}

// canaryTests are T13 to T15: each is one transaction.
var canaryTests = []txnTest{
	{
		name:    "T13 canary",
		prepare: func(w *world) { w.asks(TryOut) },
		make: func(w *world) Txn {
			v := w.view()
			return Flip(w.fence, v, w.beside(v, &Canary{Release: w.r2, Buffer: 1, Audience: Audience{Share: 500}, Since: 8}))
		},
		check: func(w *world, rev int64) {
			for _, k := range []string{ActiveKey(w.site), HistoryKey(w.site, 8), ResultKey(w.site, "01REQ2")} {
				w.wantMod(k, rev)
			}
			v := w.view()
			if a := v.Active.Value; a.Release != w.r1 || a.Canary == nil || a.Canary.Release != w.r2 || v.Rollout.Exists() {
				w.t.Errorf("active is %+v, rollout %+v", a, v.Rollout)
			}
			if r := v.Results["01REQ2"]; r.State != StateCanary || r.Release != w.r2 || r.Epoch != 8 {
				w.t.Errorf("result %+v", r)
			}
			if k := v.BackBuffer(); k != 2 { // the world has no previous release
				w.t.Errorf("back buffer %d", k)
			}
		},
		breaches: flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op", AllowRollback: true})) }),
	},
	{
		name:    "T14 promote",
		prepare: func(w *world) { w.tried(Promote) },
		make:    func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.next(v)) },
		check: func(w *world, rev int64) {
			w.wantMod(ActiveKey(w.site), rev)
			v := w.view()
			if a := v.Active.Value; a.Release != w.r2 || a.Canary != nil || v.Results["01REQ2"].State != StateActive {
				w.t.Errorf("active is %+v, results %+v", a, v.Results)
			}
		},
		breaches: append(slices.DeleteFunc(flipBreaches(ClassFrozen, func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }), func(b breach) bool {
			return b.what == "another rollout" || b.what == "aborted" // there is none
		}), breach{"a rollout started", func(w *world) { w.put(RolloutKey(w.site), "{}") }, ClassRolloutChanged}),
	},
	{
		name: "T15 end the canary",
		prepare: func(w *world) {
			w.tried(EndCanary)
			w.put(ClaimKey(w.site, 1, "main", w.nodes[0].Node), NoClaim) // whoever has lost it
		},
		make: func(w *world) Txn { v := w.view(); return Flip(w.fence, v, w.beside(v, nil)) },
		check: func(w *world, rev int64) {
			w.wantMod(ActiveKey(w.site), rev)
			w.wantValue(VerdictKey(w.site, w.r2), "bad its canary was ended by ci@example: errors")
			v := w.view()
			if a := v.Active.Value; a.Release != w.r1 || a.Canary != nil || v.Results["01REQ2"].State != StateActive {
				w.t.Errorf("active is %+v, results %+v", a, v.Results)
			}
		},
		breaches: []breach{
			{"another manager leads", func(w *world) { w.anew(w.fence.Key) }, ClassNotLeader},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"a rollout started", func(w *world) { w.put(RolloutKey(w.site), "{}") }, ClassRolloutChanged},
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"the request has ended", func(w *world) { w.put(ResultKey(w.site, "01REQ2"), "{}") }, ClassConflict},
			{"the site was frozen", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }, ClassFrozen},
		},
	},
	{
		name:    "T2 end the canary, which is judged already",
		prepare: func(w *world) { w.tried(TryOut); w.put(VerdictKey(w.site, w.r2), "bad") },
		make: func(w *world) Txn {
			return Request(w.view(), Desired{Request: "01REQ3", Mode: EndCanary, Release: w.r2, By: "op@example", At: day})
		},
		check: func(w *world, rev int64) { w.wantMod(DesiredKey(w.site), rev) },
		breaches: []breach{
			{"somebody else asked", func(w *world) { w.again(DesiredKey(w.site)) }, ClassConflict},
			{"active moved", func(w *world) { w.again(ActiveKey(w.site)) }, ClassActiveMoved},
			{"the site was frozen", func(w *world) { w.put(FreezeKey(w.site), encode(Freeze{By: "op"})) }, ClassFrozen},
		},
	},
}

// TestFrozen_endCanary: to take a canary back is to go back.
func TestFrozen_endCanary(t *testing.T) {
	v := &View{Freeze: Entry[Freeze]{Value: Freeze{AllowRollback: true}, Mod: 1, Create: 1}}
	if v.Frozen(Desired{Mode: EndCanary}) || !v.Frozen(Desired{Mode: TryOut}) || !v.Frozen(Desired{Mode: Promote}) {
		t.Error("a freeze that allows rollbacks allows to end a canary, and nothing else of it")
	}
	if v.Freeze.Value.AllowRollback = false; !v.Frozen(Desired{Mode: EndCanary}) {
		t.Error("ended under a freeze")
	}
}
