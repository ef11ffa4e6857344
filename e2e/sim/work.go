package main

import (
	"fmt"
	"slices"
	"time"

	"relman/cluster"
	"relman/nodeagent"
	"relman/release"
)

// work has the worker take its next step, unless it is at one.
func (n *node) work(pause time.Duration) {
	if n.busy {
		return
	}
	n.busy = true
	n.job++
	job := n.job
	n.after(pause, func() {
		if n.job == job {
			n.step(job)
		}
	})
}

// step is what nodeagent.Next says.
func (n *node) step(job int) {
	if n.disk.release, n.disk.epoch = n.applied.release, n.applied.epoch; !n.seen || !n.obeys() {
		n.rest(job)
		return
	}
	n.grow()
	s := n.standing()
	m := nodeagent.Next(s)
	if n.view.Member.Value == cluster.MemberOut {
		clear(n.claims)
		n.claiming, n.learned = false, false
	}
	if n.w.bug.moves != nil {
		m = n.w.bug.moves(n, m)
	}
	if m.Do != nodeagent.Rest {
		n.w.say("%s: is to %s %s%v, trees %v", n.name, m.Do, m.Release, m.Claims, n.trees)
	}
	if m.Entered && !n.entered {
		n.entered = true
		n.w.say("%s: has entered", n.name)
	}
	switch m.Do {
	case nodeagent.Rest:
		n.rest(job)
	case nodeagent.Learn:
		n.learn(job)
	case nodeagent.Lower:
		n.write(job, cluster.Lower(n.self, &s.View, m.Buffers), m.Buffers, func() { n.lowered(m.Buffers) })
	case nodeagent.Enter:
		all := make([]int, cluster.MaxBuffers)
		for k := range all {
			all[k] = k
		}
		n.write(job, cluster.Enter(n.self, &s.View, m.Claims), all, func() { n.claims, n.claiming = slices.Clone(m.Claims), true })
	case nodeagent.Claim:
		r := n.view.Rollout.Value
		n.write(job, cluster.ClaimReady(n.self, &s.View), []int{r.Buffer}, func() { n.claims[r.Buffer] = r.Release })
	case nodeagent.Fetch:
		n.fetch(job, s, m)
	}
}

// grow makes room for as many releases as etcd speaks of.
func (n *node) grow() {
	want, err := n.standing().Places()
	if err != nil {
		n.w.breaks("panic", "%s: %v", n.name, err)
	}
	for len(n.trees) < want {
		n.trees = append(n.trees, "")
		n.disk.grow(len(n.trees))
	}
	for len(n.claims) < len(n.trees) {
		n.claims = append(n.claims, "")
	}
}

// rest waits for something new, or until the claims are to be read again.
func (n *node) rest(job int) {
	n.busy = false
	n.tellStatus()
	n.after(n.w.between(recheck/2, recheck*3/2), func() {
		if n.job == job {
			n.learned = false
			n.work(0)
		}
	})
}

// fail tries again a little later.
func (n *node) fail(job int) {
	if n.job == job {
		n.busy = false
		n.work(n.w.between(10*time.Millisecond, 2*time.Second))
	}
}

func (n *node) lowered(buffers []int) {
	for _, k := range buffers {
		n.claims[k] = ""
	}
	n.w.sum.Lowered++
}

// learn reads the node's own claims.
func (n *node) learn(job int) {
	if n.turn == 0 {
		n.takeTurn(job)
		return
	}
	member := n.view.Member.Mod
	var claims []release.ID
	mods := make([]int64, cluster.MaxBuffers)
	born := n.w.etcd.reborn
	n.call(func() {
		for k := range cluster.MaxBuffers {
			if p := n.w.etcd.pairs[cluster.ClaimKey(site, k, n.self.Group, n.self.Node)]; p != nil {
				id := release.ID(p.Value)
				if p.Value == cluster.NoClaim {
					id = ""
				}
				claims, mods[k] = append(claims, id), p.Mod
			}
		}
	}, func(answered bool) {
		switch {
		case n.job != job:
		case !answered:
			n.fail(job)
		default:
			n.claims, n.mods = make([]release.ID, max(len(claims), len(n.trees))), mods
			copy(n.claims, claims)
			n.claiming, n.learned, n.member = len(claims) > 0, true, member
			n.entered = n.entered && n.claiming
			n.w.check.learned(n, born)
			n.step(job)
		}
	})
}

// takeTurn makes sure that nothing which it has sent before is carried out any more.
func (n *node) takeTurn(job int) {
	n.turns++
	t := cluster.TakeTurn(n.self, site, fmt.Sprintf("%s.%d", n.name, n.turns))
	n.commit(t, 0, func() bool { return n.job != job }, func(o outcome) {
		switch {
		case n.job != job:
		case o.err != nil:
			n.fail(job)
		default:
			n.turn = o.rev
			n.learn(job)
		}
	})
}

// write commits what writes the claims of some buffers.
func (n *node) write(job int, t cluster.Txn, buffers []int, then func()) {
	turn := n.turn
	n.learned, n.turn = false, 0 // until it is answered
	n.commit(t, 0, func() bool { return n.job != job }, func(o outcome) {
		switch {
		case n.job != job:
		case o.err != nil || o.class() == cluster.ClassConflict:
			n.fail(job)
		case o.refused != nil:
			n.turn = turn
			n.fail(job)
		default:
			n.turn = turn
			for _, k := range buffers {
				n.mods[k] = o.rev
			}
			then()
			n.learned = true
			n.step(job)
		}
	})
}

// fetch fills a tree. First the claim goes, then the bytes come, then the tree is
// given up, changed, made durable, and named.
func (n *node) fetch(job int, s *nodeagent.Standing, m nodeagent.Move) {
	if k := n.view.Rollout.Value.Buffer; m.Retract && n.claims[k] != "" && !n.w.bug.keeps {
		n.write(job, cluster.Retract(n.self, &s.View), []int{k}, func() { n.claims[k] = "" })
		return // and then Next says the same again
	}
	if n.w.bug.keeps { // it thinks only of what it needs
		s.Claims = nil
	}
	i, lower := s.Room()
	switch {
	case i < 0 && len(lower) > 0:
		n.write(job, cluster.Lower(n.self, &s.View, lower), lower, func() { n.lowered(lower) })
		return
	case i < 0 || !n.w.store.readable(m.Release):
		n.fail(job)
		return
	}
	n.w.sum.Fills++
	takes := n.w.between(50*time.Millisecond, 5*time.Second)
	if n.w.fault(1, 12) {
		n.w.sum.SlowFills++
		takes = n.w.between(10*time.Second, 3*time.Minute)
	}
	if n.slow > 0 && !n.w.quiet {
		takes += n.slow
	}
	n.after(takes, func() {
		if n.job == job {
			n.place(job, i, m.Release)
		}
	})
}

// place changes a tree. It is not interrupted, but by a crash.
func (n *node) place(job, i int, id release.ID) {
	was := n.trees[i]
	if was != "" && (was == n.shown || was == n.view.Active.Value.Release) {
		n.fail(job) // it has come to be needed
		return
	}
	t := n.disk.trees[i]
	n.firm = true
	n.trees[i] = ""
	t.manifest, t.content, t.rotten = "", torn, false
	moment := func(then func()) {
		gen := n.gen
		n.after(n.w.between(time.Millisecond, 400*time.Millisecond), func() {
			if n.w.fault(1, 60) {
				n.crash("in the midst of a fill")
			}
			if n.gen == gen {
				then()
			}
		})
	}
	named := func() {
		t.manifest = id
		n.trees[i], n.firm = id, false
		n.w.say("%s: holds %s", n.name, id)
		n.swap()
		if n.job == job {
			n.step(job)
			return
		}
		n.busy = false
		n.work(0)
	}
	if n.w.bug.serves {
		n.trees[i] = id
		n.swap()
	}
	moment(func() {
		t.content = id
		if n.w.bug.hasty { // it claims what the disk may not have
			named()
			n.after(n.w.between(time.Second, 30*time.Second), func() {
				if t.manifest == id {
					t.synced = t.content
				}
			})
			return
		}
		moment(func() {
			t.synced = t.content
			moment(named)
		})
	})
}

// crash ends the node at once. It comes back, unless it is dead.
func (n *node) crash(why string) {
	if !n.up {
		return
	}
	n.w.sum.Crashes++
	n.w.say("%s: crashes %s", n.name, why)
	n.kill()
	n.disk.crash(n.w)
	if !n.dead {
		n.w.after(n.w.between(200*time.Millisecond, 40*time.Second), func() {
			if !n.up && !n.dead {
				n.boot()
			}
		})
	}
}

// rot spoils some bytes of what the node holds. It is found out after a while.
func (n *node) rot() {
	i := n.w.rnd.IntN(len(n.trees))
	t := n.disk.trees[i]
	if !n.up || n.trees[i] == "" {
		return
	}
	id := t.manifest
	n.w.sum.Rots++
	n.w.say("%s: %s rots", n.name, id)
	t.rotten = true
	n.after(n.w.between(100*time.Millisecond, 30*time.Second), func() {
		if n.trees[i] != id || !t.rotten {
			return
		}
		n.w.say("%s: finds that %s has rotted", n.name, id)
		n.spoil(id)
		n.trees[i] = ""
		*t = tree{content: torn, synced: torn}
		if n.shown == id {
			n.entered = false
		}
		n.learned = false
		if n.busy && !n.firm {
			n.job++
			n.busy = false
		}
		n.work(0)
	})
}
