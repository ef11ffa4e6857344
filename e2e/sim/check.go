package main

import (
	"slices"
	"strings"

	"relman/cluster"
	"relman/cluster/audit"
	"relman/release"
)

// checker looks at every step: by its own rules, which see the nodes and the store
// as they are, and by the program's checker of histories.
type checker struct {
	w     *world
	audit *audit.Checker
	flips map[string]int64
	away  map[*node]bool // their claims are of before etcd went back
	read  map[*node]bool // and these have read them since
}

func newChecker(w *world) *checker {
	c := &checker{w: w, audit: audit.New(), flips: map[string]int64{}, away: map[*node]bool{}, read: map[*node]bool{}}
	c.audit.Take(cluster.Revision{Base: true})
	return c
}

// restored begins anew: nothing can be said of what etcd has forgotten.
func (c *checker) restored() {
	e := c.w.etcd
	c.audit, c.flips = audit.New(), map[string]int64{}
	r := cluster.Revision{Number: e.rev, Base: true}
	for _, k := range e.keys {
		p := e.pairs[k]
		r.Changes = append(r.Changes, cluster.Change{Key: k, Value: p.Value, Create: p.Create, Mod: p.Mod, Lease: p.lease})
	}
	c.audit.Take(r)
	for _, n := range c.w.nodes {
		c.away[n], c.read[n] = true, false
	}
}

// learned: a node has read its claims. What was lost and is not claimed now will not
// be claimed any more without the node.
func (c *checker) learned(n *node, born int) {
	if born == c.w.etcd.reborn {
		c.read[n] = true
	}
	for id := range n.outcry {
		if !c.claimed(n, id) && c.registered(n) {
			delete(n.outcry, id)
		}
	}
}

// registered reports whether etcd has a node with this start of it.
func (c *checker) registered(n *node) bool {
	p := c.w.etcd.pairs[cluster.LiveKey(n.self.Node)]
	return n.up && p != nil && value[cluster.Live](p).Boot == n.self.Live.Boot
}

func (c *checker) claimed(n *node, id release.ID) bool {
	for k := range cluster.MaxBuffers {
		if p := c.w.etcd.pairs[cluster.ClaimKey(site, k, n.self.Group, n.self.Node)]; p != nil && p.Value == string(id) {
			return true
		}
	}
	return false
}

// fenced: I4, of a transaction that is about to commit.
func (c *checker) fenced(t cluster.Txn) {
	for _, g := range t.Guards {
		if g.Class != cluster.ClassNotLeader {
			continue
		}
		if first := c.w.etcd.oldest(); first == nil || first.Create != g.Rev {
			c.w.breaks("I4", "%s commits, and who sends it does not lead", t.Name)
		}
	}
}

// commit looks at a revision that has just been made. before is what its keys were.
func (c *checker) commit(by *proc, r cluster.Revision, before map[string]*pair) {
	c.audit.Take(r)
	if found := c.audit.Report(); found.Broken() > 0 {
		v := found.Violations[0]
		c.w.breaks(string(v.Invariant), "%s (audit)", v.Text)
	}
	for _, ch := range r.Changes {
		switch {
		case ch.Key == cluster.ActiveKey(site) && !ch.Deleted:
			c.flip(entry[cluster.Active](before[ch.Key]), get[cluster.Active](c.w.etcd, ch.Key), before)
		case ch.Key == cluster.RolloutKey(site) && !ch.Deleted:
			c.w.sum.Rollouts++
		case ch.Key == cluster.BakedKey(site):
			c.w.sum.Baked++
		case strings.HasPrefix(ch.Key, cluster.ReleasesPrefix(site)):
			c.store()
		case strings.HasPrefix(ch.Key, cluster.MembersPrefix(site)) && ch.Value == string(cluster.MemberOut):
			c.w.sum.Outs++
		}
	}
	c.claims()
}

// flip: I2, I3, I6, I7, I8, I10 at a change of what is active.
func (c *checker) flip(old, now cluster.Entry[cluster.Active], before map[string]*pair) {
	w, a := c.w, now.Value
	w.sum.Flips++
	if a.Canary != nil {
		w.sum.Canaries++
	}
	if a.Kind == cluster.KindRevert {
		w.sum.Reverts++
	}
	if a.Epoch != old.Value.Epoch+1 {
		w.breaks("I3", "epoch %d follows %d", a.Epoch, old.Value.Epoch)
	}
	if at, is := c.flips[a.Flip]; is {
		w.breaks("I7", "the flip %s of revision %d comes again", a.Flip, at)
	}
	c.flips[a.Flip] = now.Mod
	keep := []*cluster.Held{{Release: old.Value.Release, Buffer: old.Value.Buffer}}
	if old.Value.Pending(a.At) { // what nodes were still to show is as good
		keep = append(keep, old.Value.Previous)
	}
	kept := slices.ContainsFunc(keep, func(h *cluster.Held) bool { return h != nil && slices.Contains(a.Needed(), *h) })
	if old.Exists() && !kept {
		w.breaks("I10", "%s, which was active, is not kept", old.Value.Release)
	}
	back := a.Kind == cluster.Rollback || a.Kind == cluster.KindRevert || a.Kind == cluster.EndCanary
	freeze := get[cluster.Freeze](w.etcd, cluster.FreezeKey(site))
	if was, changed := before[cluster.FreezeKey(site)]; changed {
		freeze = entry[cluster.Freeze](was) // a flip may freeze what it has flipped
	}
	if freeze.Exists() && (!back || !freeze.Value.AllowRollback) && !slices.Contains(a.Override, cluster.OverrideFreeze) {
		w.breaks("I6", "a %s to %s while the site is frozen", a.Kind, a.Release)
	}
	for _, h := range a.Needed()[:1] {
		if h.Release == old.Value.Release {
			continue
		}
		for _, k := range w.etcd.under(cluster.ClaimsPrefix(site, h.Buffer)) {
			if p := w.etcd.pairs[k]; p.Value != string(h.Release) {
				w.breaks("I2", "%s becomes active, and %s is %s", h.Release, short(k), p.Value)
			}
		}
	}
	for _, n := range w.nodes {
		if !n.ready() || c.away[n] {
			continue
		}
		want := []release.ID{a.Release, old.Value.Release}
		if a.Canary != nil {
			want = append(want, a.Canary.Release)
		}
		for _, id := range want {
			if id != "" && !n.holds(id) && !n.outcry[id] {
				w.breaks("I8", "%s becomes active, and %s, which serves, does not hold %s", a.Release, n.name, id)
			}
		}
	}
}

// claims: I5. A claim is true on the durable disk of its node, but where a fault has
// taken what was claimed, until the node can say so.
func (c *checker) claims() {
	for _, n := range c.w.nodes {
		all := true
		for k := range cluster.MaxBuffers {
			p := c.w.etcd.pairs[cluster.ClaimKey(site, k, n.self.Group, n.self.Node)]
			if p == nil {
				continue
			}
			id := release.ID(p.Value)
			if p.Value == cluster.NoClaim || n.disk.backs(id) {
				continue
			}
			all = false
			// A member that is registered and takes its claims for read has no excuse. One
			// that drains cannot take a claim back: it is not ready, and they go with it.
			in := n.view.Member.Value == cluster.MemberIn
			answers := in && c.registered(n) && n.standing().Known
			excused := n.outcry[id] && !answers
			if !excused && !c.away[n] {
				c.w.breaks("I5", "%s claims %s in buffer %d, and its disk does not hold it", n.name, id, k)
			}
		}
		if c.away[n] && c.read[n] && all {
			delete(c.away, n)
		}
	}
}

// swapped: I1 and I3 of what a node shows now. before is the epoch that it had
// applied.
func (c *checker) swapped(n *node, before release.Epoch) {
	if n.epoch < before {
		c.w.breaks("I3", "%s shows epoch %d after %d, and nobody has told it to", n.name, n.epoch, before)
	}
	for i, id := range n.trees {
		if t := n.disk.trees[i]; id == n.shown && t.content != id && !t.rotten {
			c.w.breaks("I1", "%s shows %s, and the tree has %s", n.name, id, t.content)
		}
	}
}

// accepted: an operator has told a node to forget which epoch it has shown.
func (c *checker) accepted(n *node) { c.read[n] = false }

// visit: I9. A part of a page is asked for at a ready node.
func (c *checker) visit(n *node, id release.ID, epoch release.Epoch) {
	a := get[cluster.Active](c.w.etcd, cluster.ActiveKey(site)).Value
	if c.w.etcd.reborn > 0 || n.outcry[id] {
		return // of an etcd that went back a visitor may have seen more
	}
	needed := slices.ContainsFunc(a.Needed(), func(h cluster.Held) bool { return h.Release == id })
	if needed && !n.holds(id) {
		c.w.breaks("I9", "a page of %s asks %s for a part, which does not hold it", id, n.name)
	}
	if n.epoch < epoch && !n.holds(a.Release) && !n.outcry[a.Release] {
		c.w.breaks("I9", "a visitor who has seen epoch %d comes to %s, which shows %d and cannot follow", epoch, n.name, n.epoch)
	}
}

// store: I14.
func (c *checker) store() {
	for _, k := range c.w.etcd.under(cluster.ReleasesPrefix(site)) {
		id := release.ID(strings.TrimPrefix(k, cluster.ReleasesPrefix(site)))
		if o := c.w.store.lacks(id); o != "" {
			c.w.breaks("I14", "%s is registered, and the store lacks %s", id, o)
		}
	}
}

// told: I15, of a result that somebody was told.
func (c *checker) told(req cluster.RequestID, r cluster.Result) {
	if r.State != cluster.StateActive || c.w.etcd.reborn > 0 {
		return // what an etcd says that goes back then may have been forgotten when it arrives
	}
	if h := get[cluster.Active](c.w.etcd, cluster.HistoryKey(site, r.Epoch)); !h.Exists() || h.Value.Release != r.Release {
		c.w.breaks("I15", "request %s was told that %s is active at epoch %d, and the history has %s", req, r.Release, r.Epoch, h.Value.Release)
	}
}
