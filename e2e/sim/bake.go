package main

import (
	"time"

	"relman/cluster"
	"relman/release"
)

// Of the runs one in three has releases that bake, by the seed's number: chance is
// not asked, so that the others are as they were. There, some releases are bad, on one
// node or on all of them, which only who looks at them finds out.

const everywhere = -1

// mayBeBad makes a new release a bad one, now and then.
func (w *world) mayBeBad(id release.ID) {
	switch {
	case w.allBad:
		for i, n := range w.nodes {
			if !n.dead {
				w.bad[id] = i
				return
			}
		}
	case w.policy.bakes && w.fault(1, 4):
		w.bad[id] = w.rnd.IntN(len(w.nodes)+1) + everywhere
	}
}

// isBad reports whether a release does not work on a node.
func (w *world) isBad(id release.ID, n *node) bool {
	on, bad := w.bad[id]
	return bad && (on == everywhere || w.nodes[on] == n)
}

// taste has the node look at a release that bakes, a while after it shows it.
func (n *node) taste() {
	a := n.view.Active.Value
	if a.Bake == nil || n.waiting || n.epoch != a.Epoch || n.tasting == a.Flip {
		return
	}
	n.tasting = a.Flip
	n.after(n.w.between(100*time.Millisecond, 4*time.Second), func() {
		if n.tasting != a.Flip || n.epoch != a.Epoch {
			return
		}
		n.tasted = &cluster.BakeReport{Epoch: a.Epoch, Good: true}
		if n.w.isBad(a.Release, n) {
			n.tasted = &cluster.BakeReport{Epoch: a.Epoch, Bad: "status 500"}
			n.w.say("%s: finds %s bad", n.name, a.Release)
			n.w.sum.FoundBad++
		}
		n.tellStatus()
	})
}

// lastBad publishes, after the faults, a release that is bad on one node: it goes
// back by itself (L4).
func (w *world) lastBad() {
	if !w.policy.bakes || w.broken != nil {
		return
	}
	w.await(3*time.Minute, func() bool { return !w.etcd.observe().Baking() })
	w.allBad = true
	id := w.lastPublish()
	if id == "" {
		return
	}
	stands := func() bool {
		v := w.etcd.observe()
		_, barred := v.Verdicts[v.Active.Value.Previous.Release]
		return v.Active.Value.Release == id && !barred
	}
	if bound := w.policy.bake.Time() + time.Duration(w.policy.grace)*time.Second + slack; !w.await(bound, func() bool { return !stands() }) {
		w.breaks("L4", "%s, which is bad, is still active %v after its flip: %s", id, bound, w.state())
	}
}
