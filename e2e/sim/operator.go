package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// operate has an operator do something, on the ground of what he sees, and a while
// after he has seen it.
func (w *world) operate() {
	p := &proc{w: w, name: "operator"}
	p.start()
	var v *cluster.View
	p.call(func() { v = w.etcd.observe() }, func(answered bool) {
		if !answered || !v.Policy.Exists() {
			return
		}
		p.after(w.between(0, 3*time.Second), func() {
			if !w.quiet {
				w.acts(p, v)
			}
		})
	})
}

// acts picks one of the things that operators do.
func (w *world) acts(p *proc, v *cluster.View) {
	nothing := func(outcome) {}
	ids := slices.Sorted(maps.Keys(v.Releases))
	one := func() release.ID {
		if len(ids) == 0 {
			return ""
		}
		return ids[w.rnd.IntN(len(ids))]
	}
	n := w.nodes[w.rnd.IntN(len(w.nodes))].self.Node
	at := w.clock()
	switch w.rnd.IntN(16) {
	case 0, 1, 2:
		if prev := v.Active.Value.Previous; prev != nil {
			w.asks(p, v, cluster.Desired{Mode: cluster.Rollback, Release: prev.Release, Freeze: w.odds(1, 8)})
		}
	case 3, 4:
		if id := one(); id != "" {
			w.asks(p, v, cluster.Desired{Mode: cluster.FlipTo, Release: id, Hold: w.odds(1, 5)})
		}
	case 5:
		w.asks(p, v, cluster.Desired{Mode: cluster.Abort})
	case 6:
		z := &cluster.Freeze{By: "op", Reason: "night", At: at, AllowRollback: w.odds(1, 2)}
		if w.odds(1, 2) {
			z.Until = at.Add(w.between(5*time.Second, 60*time.Second))
		}
		p.commit(cluster.SetFreeze(site, v.Freeze, z), 0, nil, nothing)
	case 7, 8:
		if v.Freeze.Exists() {
			p.commit(cluster.SetFreeze(site, v.Freeze, nil), 0, nil, nothing)
		}
	case 9:
		if id := one(); id != "" {
			verdict := []cluster.Verdict{cluster.Bad, cluster.Yanked, ""}[w.rnd.IntN(3)]
			if verdict != "" || v.Verdicts[id].Exists() {
				p.commit(cluster.SetVerdict(v, id, verdict, "seen"), 0, nil, nothing)
			}
		}
	case 10:
		c := &cluster.Cordon{By: "op", Reason: "disk", At: at}
		if v.Cordons[n].Exists() {
			c = nil
		}
		p.commit(cluster.SetCordon(v, n, c), 0, nil, nothing)
	case 11:
		next := v.Policy.Value
		next.Min = []string{"1", "50%", "75%", "2"}[w.rnd.IntN(4)]
		next.MostOutNodes = []string{"20%", "50%", "1"}[w.rnd.IntN(3)]
		next.RequireLive = w.odds(1, 4)
		if w.odds(1, 4) {
			next.Buffers = min(next.Buffers+1, cluster.DefaultBuffers+1)
		}
		p.commit(cluster.SetPolicy(site, v.Policy, next), 0, nil, nothing)
	case 12:
		if v.OnTrial() || v.Baking() {
			p.commit(cluster.Confirm(v), 0, nil, nothing)
		}
	case 13:
		if id := one(); id != "" && v.Active.Exists() {
			a := cluster.Audience{Share: 500}
			if w.odds(1, 2) {
				a = cluster.Audience{Group: "beta"}
			}
			w.asks(p, v, cluster.Desired{Mode: cluster.TryOut, Release: id, Canary: a})
		}
	default:
		if c := v.Active.Value.Canary; c != nil {
			w.asks(p, v, cluster.Desired{Mode: []cluster.Kind{cluster.Promote, cluster.EndCanary}[w.rnd.IntN(2)], Release: c.Release})
		} else if id := one(); id != "" {
			why := ""
			if !v.Pins[id].Exists() {
				why = "kept"
			}
			p.commit(cluster.SetPin(v, id, why), 0, nil, nothing)
		}
	}
}

// asks makes a request, now and then one that overrides a rule.
func (w *world) asks(p *proc, v *cluster.View, d cluster.Desired) {
	d.Request, d.By, d.At = w.request(), "op", w.clock()
	switch w.rnd.IntN(12) {
	case 0:
		d.Override = []cluster.Override{cluster.OverrideFreeze, cluster.OverrideVerdict}
	case 1:
		d.Override = []cluster.Override{cluster.OverrideRequire}
	case 2:
		d.Require = "all"
	}
	if d.Mode == cluster.FlipTo {
		d.SwapInMS = w.later()
	}
	if d.Mode == cluster.FlipTo && w.odds(1, 6) {
		d.ConfirmSeconds = 5 + w.rnd.IntN(40)
	}
	w.ask(p, v, d, func(cluster.Result) {})
}

// tidies has an operator, after the faults, take back what keeps the site from
// going on, until nothing does.
func (w *world) tidies() {
	p := &proc{w: w, name: "operator"}
	p.start()
	v := w.etcd.observe()
	var txns []cluster.Txn
	if v.Freeze.Exists() {
		txns = append(txns, cluster.SetFreeze(site, v.Freeze, nil))
	}
	for _, n := range slices.Sorted(maps.Keys(v.Cordons)) {
		txns = append(txns, cluster.SetCordon(v, n, nil))
		w.cordoned = w.now
	}
	want := cluster.DefaultPolicy()
	want.Bake = w.policy.bake
	want.Buffers, want.PrepareDeadlineSeconds, want.GraceSeconds = v.Policy.Value.Buffers, w.policy.deadline, w.policy.grace
	if !reflect.DeepEqual(v.Policy.Value, want) {
		txns = append(txns, cluster.SetPolicy(site, v.Policy, want))
	}
	for _, t := range txns {
		p.commit(t, 0, nil, func(outcome) {})
	}
	if c := v.Active.Value.Canary; c != nil && v.Done() {
		w.ask(p, v, cluster.Desired{Request: w.request(), Mode: cluster.EndCanary, Release: c.Release, By: "op", At: w.clock()}, func(cluster.Result) {})
	}
	for _, n := range w.nodes {
		if n.up && n.seen && !n.obeys() && v.Status[n.self.Node].State == cluster.NodeRefusing {
			w.sum.Accepted++
			w.say("%s: is told to accept the reset", n.name)
			n.accept()
		}
	}
}

// accept is nodeagent.Agent.AcceptReset.
func (n *node) accept() {
	n.applied.release, n.applied.epoch, n.epoch = "", 0, 0
	n.tasting, n.tasted = "", nil
	n.w.check.accepted(n)
	n.swap()
	n.work(0)
}

// words is a list in one line.
func words[T any](all []T) string {
	var s []string
	for _, a := range all {
		s = append(s, fmt.Sprint(a))
	}
	return strings.Join(s, ", ")
}
