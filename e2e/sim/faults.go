package main

import (
	"time"

	"relman/cluster"
	"relman/release"
)

// plan is what a seed makes of a run: how large the cluster is, and which faults
// there are. Not all at once: some are only reached when others are away.
type plan struct {
	nodes, managers int
	faulty          time.Duration // how long there are faults
	deadline, grace int           // of the policy, in seconds
	keep            int           // releases that a sweep keeps beside those that are needed

	managersDie, managersStop, nodesDie, nodesCut, nodesRot, disksDie bool
	bakes                                                             bool
	bake                                                              cluster.Bake

	etcdDown, etcdOld, compacts, storeAway, sweeps, operators, deaths bool
}

func (w *world) newPlan() plan {
	may := func(n, m int) bool { return w.odds(n, m) }
	p := plan{
		nodes: 2 + w.rnd.IntN(3), managers: 1 + w.rnd.IntN(3), faulty: w.between(60*time.Second, 200*time.Second),
		deadline: 20 + w.rnd.IntN(100), grace: 5 + w.rnd.IntN(25), keep: w.rnd.IntN(3),
		managersDie: may(1, 2), managersStop: may(1, 2), nodesDie: may(1, 2), nodesCut: may(1, 2), nodesRot: may(1, 3), disksDie: may(1, 3),
		etcdDown: may(1, 4), compacts: may(1, 2), storeAway: may(1, 3), sweeps: may(2, 3), operators: may(3, 4), deaths: may(1, 3),
	}
	if may(1, 8) { // what a sweep has deleted an older etcd would still have
		p.etcdOld, p.sweeps = true, false
	}
	p.bake = cluster.DefaultPolicy().Bake
	if p.bakes = w.seed%3 == 1; p.bakes {
		p.bake.Seconds = 10 + w.rnd.IntN(25)
	}
	return p
}

// every has something happen again and again while there are faults.
func (w *world) every(least, most time.Duration, do func()) {
	w.after(w.between(least, most), func() {
		if !w.quiet {
			do()
			w.every(least, most, do)
		}
	})
}

// faults begins all that the plan has.
func (w *world) faults() {
	p := &w.policy
	w.every(3*time.Second, 25*time.Second, func() {
		w.publish(cluster.Desired{Mode: cluster.Publish, ConfirmSeconds: w.trial(), SwapInMS: w.later()}, nil)
	})
	w.every(100*time.Millisecond, 4*time.Second, w.visit)
	for _, f := range []struct {
		on          bool
		least, most time.Duration
		do          func()
	}{
		{p.operators, time.Second, 12 * time.Second, w.operate},
		{p.sweeps, 5 * time.Second, 40 * time.Second, w.sweep},
		{p.managersDie, 5 * time.Second, 60 * time.Second, w.killManager},
		{p.managersStop, 5 * time.Second, 50 * time.Second, w.stopManager},
		{p.nodesDie, 5 * time.Second, 50 * time.Second, func() { w.anyNode().crash("") }},
		{p.nodesCut, 5 * time.Second, 50 * time.Second, w.cutNode},
		{p.nodesRot, 10 * time.Second, 60 * time.Second, func() { w.anyNode().rot() }},
		{p.disksDie, 20 * time.Second, 90 * time.Second, w.loseDisk},
		{p.etcdDown, 20 * time.Second, 90 * time.Second, w.etcdAway},
		{p.compacts, 10 * time.Second, 60 * time.Second, w.compact},
		{p.storeAway, 10 * time.Second, 60 * time.Second, w.storeGone},
		{p.etcdOld, time.Second, 10 * time.Second, func() { w.etcd.keep() }},
	} {
		if f.on {
			w.every(f.least, f.most, f.do)
		}
	}
	if p.etcdOld {
		w.after(w.between(p.faulty/3, p.faulty*9/10), w.goBack)
	}
}

// trial is for how long a publish is on trial, mostly not.
func (w *world) trial() int {
	if w.odds(1, 8) {
		return 5 + w.rnd.IntN(40)
	}
	return 0
}

// later is in how many milliseconds nodes are to show a release, mostly 0.
func (w *world) later() int64 {
	if w.odds(1, 6) {
		return w.between(100*time.Millisecond, 25*time.Second).Milliseconds()
	}
	return 0
}

func (w *world) anyNode() *node { return w.nodes[w.rnd.IntN(len(w.nodes))] }

func (w *world) killManager() {
	m := w.managers[w.rnd.IntN(len(w.managers))]
	if !m.up {
		return
	}
	w.sum.ManagersKilled++
	w.say("%s: is killed", m.name)
	m.leads = false
	m.kill()
	w.after(w.between(time.Second, 20*time.Second), func() {
		if !m.up {
			m.boot()
		}
	})
}

func (w *world) stopManager() {
	m := w.managers[w.rnd.IntN(len(w.managers))]
	if l := w.leading(); len(l) > 0 && w.odds(2, 3) {
		m = l[0]
	}
	w.sum.Pauses++
	m.pause = w.now + w.between(500*time.Millisecond, 40*time.Second)
	w.say("%s: is paused until %.3f", m.name, m.pause.Seconds())
}

// cutNode cuts a node off from etcd for a while. What the managers do goes on.
func (w *world) cutNode() {
	n := w.anyNode()
	if n.cut {
		return
	}
	w.sum.Cuts++
	w.say("%s: is cut off", n.name)
	n.cut = true
	if w.odds(1, 3) && n.session != nil {
		w.etcd.revoke(n.session.id, "a lease ends early")
	}
	w.after(w.between(2*time.Second, 60*time.Second), func() {
		w.say("%s: is not cut off any more", n.name)
		n.cut = false
	})
}

// loseDisk gives a node a new disk.
func (w *world) loseDisk() {
	n := w.anyNode()
	n.crash("and loses its disk")
	if n.up {
		return
	}
	w.sum.DisksLost++
	for i := range n.disk.trees {
		n.spoil(n.disk.trees[i].manifest)
	}
	n.disk.wipe()
}

func (w *world) etcdAway() {
	w.sum.Outages++
	w.say("etcd: does not answer")
	w.etcd.down = true
	w.after(w.between(time.Second, 30*time.Second), func() {
		w.say("etcd: answers again")
		w.etcd.down = false
	})
}

// compact breaks all watches: what they had not delivered is read anew.
func (w *world) compact() {
	w.sum.Compactions++
	w.say("etcd: is compacted")
	for _, n := range w.nodes {
		if n.up && n.seen {
			n.read()
		}
	}
	for _, m := range w.managers {
		if m.up {
			m.after(w.between(0, 5*time.Second), m.wake)
		}
	}
}

func (w *world) storeGone() {
	w.store.away = true
	w.after(w.between(time.Second, 30*time.Second), func() { w.store.away = false })
}

// goBack restores etcd to an older revision, as after the loss of a majority.
func (w *world) goBack() {
	if w.quiet || len(w.etcd.copies) == 0 {
		return
	}
	b := w.etcd.copies[max(0, len(w.etcd.copies)-1-w.rnd.IntN(6))]
	w.sum.Restores++
	w.say("etcd: goes back from revision %d to %d", w.etcd.rev, b.rev)
	w.etcd.restore(b)
	w.check.restored()
	// Everybody has lost his connection.
	for _, m := range w.managers {
		if m.up {
			m.boot()
		}
	}
	for _, n := range w.nodes {
		if n.up && n.session != nil && n.session.alive {
			n.session.end()
		}
	}
}

// visit is a visitor who gets a page from one node and its parts from another.
func (w *world) visit() {
	var ready []*node
	for _, n := range w.nodes {
		if n.ready() && n.shown != "" {
			ready = append(ready, n)
		}
	}
	if len(ready) == 0 {
		return
	}
	page := ready[w.rnd.IntN(len(ready))]
	id, epoch, born := page.shown, page.epoch, w.etcd.reborn
	w.after(w.between(0, 3*time.Second), func() {
		if w.etcd.reborn != born {
			return
		}
		for _, n := range w.nodes {
			if n.ready() {
				w.sum.Visits++
				w.check.visit(n, id, epoch)
			}
		}
	})
}

// heal ends the faults. What they have left stays.
func (w *world) heal() {
	w.say("the faults end")
	w.quiet = true
	w.etcd.down, w.store.away = false, false
	if len(w.nodes) > 2 && w.policy.deaths {
		w.nodes[w.rnd.IntN(len(w.nodes))].dead = true
	}
	for _, m := range w.managers {
		m.pause = 0
		if !m.up {
			m.boot()
		}
	}
	for _, n := range w.nodes {
		n.cut = false
		switch {
		case n.dead:
			n.kill()
			n.disk.crash(w)
		case !n.up:
			n.boot()
		}
	}
}

// setUp makes the site, the managers and the nodes.
func (w *world) setUp() {
	w.policy = w.newPlan()
	p := cluster.DefaultPolicy()
	p.PrepareDeadlineSeconds, p.GraceSeconds = w.policy.deadline, w.policy.grace
	if p.Bake = w.policy.bake; w.policy.bakes {
		p.Bake.MostBadNodes = []string{"0", "1", "50%"}[w.rnd.IntN(3)]
	}
	w.etcd.txn(&proc{w: w, name: "operator"}, cluster.CreateSite(site, p, cluster.Entry[cluster.Catalog]{}), 0)
	for i := range w.policy.managers {
		m := newChief(w, i)
		w.managers = append(w.managers, m)
		w.after(w.between(0, time.Second), m.boot)
	}
	for i := range w.policy.nodes {
		n := newNode(w, i)
		w.nodes = append(w.nodes, n)
		w.after(w.between(0, 3*time.Second), n.boot)
	}
	w.leaderSweeps()
	w.after(0, func() { w.publish(cluster.Desired{Mode: cluster.Publish}, nil) })
	w.after(w.between(time.Second, 20*time.Second), w.faults)
}

// newWorld is the run of a seed, before it has begun.
func newWorld(seed uint64, b *bug) *world {
	w := &world{seed: seed, bug: b, rnd: newRand(seed), bad: map[release.ID]int{}}
	if b == nil {
		w.bug = &bug{}
	}
	w.etcd = newEtcd(w)
	w.store = &store{w: w, objects: map[string]time.Duration{}, has: map[release.ID][]string{}}
	w.check = newChecker(w)
	w.setUp()
	return w
}

// live runs it to its end.
func (w *world) live() {
	w.run(w.policy.faulty)
	if w.broken == nil {
		w.heal()
		w.calm()
	}
}
