package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/manager"
	"relman/release"
)

// packs is how many contents there are in the world: releases share them.
const packs = 9

// store is S3. Two kinds of objects stand for all: packs, and one per release that
// says which packs it has.
type store struct {
	w       *world
	objects map[string]time.Duration // when each was put
	has     map[release.ID][]string  // the packs of every release that there ever was
	away    bool                     // it does not answer
}

func (s *store) of(id release.ID) []string {
	return append([]string{"releases/" + string(id)}, s.has[id]...)
}

// lacks is an object that a release needs and that is not there, "" for none.
func (s *store) lacks(id release.ID) string {
	for _, o := range s.of(id) {
		if _, is := s.objects[o]; !is {
			return o
		}
	}
	return ""
}

func (s *store) readable(id release.ID) bool { return !s.away && s.lacks(id) == "" }

// put puts an object that is not there.
func (s *store) put(key string) {
	if _, is := s.objects[key]; !is {
		s.objects[key] = s.w.now
	}
}

// remove removes one, and has it checked whether that was right.
func (s *store) remove(key string) {
	if _, is := s.objects[key]; !is {
		return
	}
	s.w.sum.Deleted++
	s.w.say("the store: %s is deleted", key)
	delete(s.objects, key)
	s.w.check.store()
}

// sweeper is who sweeps the store, by the program's transactions and decision of
// what is kept. Its deletions are under way for up to 10 s.
type sweeper struct {
	proc
	gc    cluster.Entry[cluster.GC]
	mod   int64 // of the sweep of another that it waits for
	since time.Duration
	until time.Duration // deletions may begin
}

const (
	sweepQuiet = 60 * time.Second
	holdWithin = 10 * time.Second
)

func (w *world) sweep() {
	w.sum.Sweeps++
	s := &sweeper{proc: proc{w: w, name: fmt.Sprintf("sweeper %d", w.sum.Sweeps)}}
	s.start()
	s.begin()
}

// dies reports whether it has just died.
func (s *sweeper) dies() bool {
	if s.w.fault(1, 25) {
		s.w.say("%s: dies", s.name)
		s.kill()
	}
	return !s.up
}

// begin takes the sweep, also one whose owner shows no sign of life.
func (s *sweeper) begin() {
	again := func() { s.after(time.Second, s.begin) }
	var gc cluster.Entry[cluster.GC]
	s.call(func() { gc = get[cluster.GC](s.w.etcd, cluster.GCKey) }, func(answered bool) {
		switch {
		case !answered:
			again()
		case gc.Value.Phase == cluster.GCSweep:
			if s.mod != gc.Mod {
				s.mod, s.since = gc.Mod, s.w.now
			}
			if s.w.now-s.since < sweepQuiet && !s.w.bug.hurries {
				again()
				return
			}
			s.w.sum.TakenOver++
			s.commit(cluster.EndSweep(gc, s.w.clock()), 0, nil, func(outcome) { again() })
		default:
			t := cluster.BeginSweep(gc, cluster.GC{ID: s.name, By: s.name, Since: s.w.clock()})
			s.commit(t, 0, nil, func(o outcome) {
				switch {
				case o.class() == cluster.ClassUploading: // publishers are at work: another time
				case o.err != nil || o.refused != nil:
					again()
				default:
					s.held(o.rev, cluster.GC{Gen: gc.Value.Gen + 1, Phase: cluster.GCSweep, ID: s.name, By: s.name, Since: s.w.clock()})
					s.survey(0)
				}
			})
		}
	})
}

// held notes what it wrote last.
func (s *sweeper) held(rev int64, g cluster.GC) {
	s.gc.Value, s.gc.Mod = g, rev
	s.until = s.w.now + 5*time.Second
}

func (s *sweeper) survey(try int) {
	if s.dies() {
		return
	}
	var v *cluster.View
	s.call(func() { v = s.w.etcd.observe() }, func(answered bool) {
		if !answered {
			s.after(time.Second, func() { s.survey(try) })
			return
		}
		used, gone := map[string]bool{}, []release.ID(nil)
		for _, f := range manager.Fates(v, s.w.policy.keep, 0, s.w.clock()) {
			if !f.Keep {
				gone = append(gone, f.Release)
				continue
			}
			for _, o := range s.w.store.of(f.Release) {
				used[o] = true
			}
		}
		var condemned []string
		for key := range s.w.store.objects {
			if !used[key] {
				condemned = append(condemned, key)
			}
		}
		slices.Sort(condemned)
		s.w.rnd.Shuffle(len(condemned), func(i, j int) { condemned[i], condemned[j] = condemned[j], condemned[i] })
		s.after(s.w.between(0, 5*time.Second), func() { s.forget(try, v, gone, condemned) })
	})
}

func (s *sweeper) forget(try int, v *cluster.View, gone []release.ID, condemned []string) {
	if s.dies() {
		return
	}
	if len(gone) == 0 || s.w.bug.objectsFirst {
		s.delete(condemned)
		return
	}
	g := s.gc.Value
	g.Holds++
	s.commit(cluster.Forget(s.gc, v, gone), 0, nil, func(o outcome) {
		switch {
		case o.class() == cluster.ClassSweeping || o.err != nil:
			s.kill() // it is another's, or it is left to be taken over
		case o.refused != nil && try < 3:
			s.survey(try + 1)
		case o.refused != nil:
			s.end()
		default:
			s.w.sum.Forgotten += len(gone)
			s.held(o.rev, g)
			s.delete(condemned)
		}
	})
}

// delete deletes one object after the other, while the sweep is held.
func (s *sweeper) delete(left []string) {
	switch {
	case s.dies():
	case len(left) == 0:
		s.end()
	case s.w.fault(1, 15): // it stands still, and looks at its clock after that
		s.w.sum.Pauses++
		s.after(s.w.between(10*time.Second, 100*time.Second), func() { s.delete(left) })
	case s.w.now > s.until && !s.w.bug.holdless:
		g := s.gc.Value
		g.Holds++
		asked := s.w.now
		s.commit(cluster.HoldSweep(s.gc), 0, func() bool { return s.w.now > asked+holdWithin }, func(o outcome) {
			if o.err != nil || o.refused != nil {
				s.kill()
				return
			}
			s.held(o.rev, g)
			s.until = asked + 5*time.Second
			s.delete(left)
		})
	default:
		takes := s.w.between(time.Millisecond, 300*time.Millisecond)
		if s.w.fault(1, 10) {
			takes = s.w.between(0, 15*time.Second)
		}
		// It is under way, whatever becomes of its sender.
		s.w.after(takes, func() { s.w.store.remove(left[0]) })
		s.after(takes, func() { s.delete(left[1:]) })
	}
}

func (s *sweeper) end() {
	s.commit(cluster.EndSweep(s.gc, s.w.clock()), 0, nil, func(outcome) { s.kill() })
}

// leaderSweeps has who leads end sweeps whose owner has died.
func (w *world) leaderSweeps() {
	rest := struct {
		mod   int64
		since time.Duration
	}{}
	p := &proc{w: w, name: "the leader's sweeping"}
	p.start()
	var look func()
	look = func() {
		gc := get[cluster.GC](w.etcd, cluster.GCKey)
		if gc.Mod != rest.mod {
			rest.mod, rest.since = gc.Mod, w.now
		}
		if gc.Value.Phase == cluster.GCSweep && w.now-rest.since >= sweepQuiet && len(w.leading()) > 0 {
			w.sum.TakenOver++
			p.commit(cluster.EndSweep(gc, w.clock()), 0, nil, func(outcome) {})
		}
		w.after(5*time.Second, look)
	}
	w.after(5*time.Second, look)
}

// publisher publishes a build that is some packs.
type publisher struct {
	proc
	req     cluster.RequestID
	wish    []string
	ask     cluster.Desired
	session *session
	view    *cluster.View
	gc      cluster.Entry[cluster.GC]
	base    release.ID
	ended   func(id release.ID, r cluster.Result) // nil: nobody waits
}

func (w *world) request() cluster.RequestID {
	w.requests++
	return cluster.RequestID(fmt.Sprintf("R%04d", w.requests))
}

// publish begins one.
func (w *world) publish(d cluster.Desired, ended func(release.ID, cluster.Result)) {
	w.sum.Publishes++
	req := w.request()
	p := &publisher{proc: proc{w: w, name: "publisher " + string(req)}, req: req, ask: d, ended: ended}
	for _, i := range w.rnd.Perm(packs)[:1+w.rnd.IntN(3)] {
		p.wish = append(p.wish, fmt.Sprint("pack ", i))
	}
	p.start()
	p.mark()
}

func (p *publisher) dies() bool {
	if p.w.fault(1, 40) {
		p.w.sum.DeadPublishers++
		p.w.say("%s: dies", p.name)
		p.kill()
	}
	return !p.up
}

// mark observes the site, puts up the marker, and waits until no sweep is under
// way.
func (p *publisher) mark() {
	again := func() { p.after(p.w.between(time.Second, 2*time.Second), p.mark) }
	p.open(uploadTTL, func() {}, func(s *session) {
		if s == nil {
			again()
			return
		}
		p.session = s
		p.call(func() { p.view = p.w.etcd.observe() }, func(answered bool) {
			if !answered {
				again()
				return
			}
			p.commit(cluster.MarkUpload(site, p.req, p.name, p.w.clock()), s.id, nil, func(o outcome) {
				if o.err != nil || o.refused != nil {
					again()
					return
				}
				p.awaitIdle()
			})
		})
	})
}

// uploadTTL is how long the marker of a dead publisher stands: shorter than the
// program's 15 minutes, so that runs see it run out.
const uploadTTL = 40 * time.Second

func (p *publisher) awaitIdle() {
	var gc cluster.Entry[cluster.GC]
	var a cluster.Entry[cluster.Active]
	p.call(func() {
		gc, a = get[cluster.GC](p.w.etcd, cluster.GCKey), get[cluster.Active](p.w.etcd, cluster.ActiveKey(site))
	}, func(answered bool) {
		switch {
		case p.dies():
		case !answered || gc.Value.Phase == cluster.GCSweep && !p.w.bug.lateGC:
			p.after(200*time.Millisecond, p.awaitIdle)
		default:
			p.gc, p.base = gc, a.Value.Release
			p.upload()
		}
	})
}

// upload puts what the base does not have, and finds what is there.
func (p *publisher) upload() {
	s := p.w.store
	var left []string
	known := p.base != "" && s.readable(p.base)
	for _, o := range p.wish {
		if !known || !slices.Contains(s.has[p.base], o) {
			left = append(left, o)
		}
	}
	var next func(left []string)
	next = func(left []string) {
		if p.dies() {
			return
		}
		if len(left) == 0 {
			p.number()
			return
		}
		takes := p.w.between(10*time.Millisecond, 2*time.Second)
		if p.w.fault(1, 30) {
			takes = p.w.between(20*time.Second, 100*time.Second) // it is suspended
		}
		p.after(takes, func() {
			if !s.away {
				s.put(left[0])
				left = left[1:]
			}
			next(left)
		})
	}
	next(left)
}

// number takes a sequence number, stores the manifest, and registers (T1).
func (p *publisher) number() {
	var seq cluster.Entry[uint64]
	p.call(func() {
		seq = get[uint64](p.w.etcd, cluster.SeqKey(site))
		if p.w.bug.lateGC {
			p.gc = get[cluster.GC](p.w.etcd, cluster.GCKey)
		}
	}, func(answered bool) {
		switch {
		case p.dies():
			return
		case !answered || p.gc.Value.Phase == cluster.GCSweep:
			p.after(time.Second, p.number)
			return
		}
		manifest := release.Sum([]byte(string(p.req) + strings.Join(p.wish, ",")))
		id := release.NewID(seq.Value+1, manifest)
		p.w.store.has[id] = p.wish
		p.w.store.put("releases/" + string(id))
		r := cluster.ReleaseRecord{Manifest: manifest, Files: len(p.wish), Created: p.w.clock(), By: p.name, Request: p.req}
		p.commit(cluster.Register(site, seq, p.gc, id, r), 0, nil, func(o outcome) {
			switch o.class() {
			case "":
				if o.err == nil {
					p.w.sum.Registered++
					p.w.mayBeBad(id)
					p.finish(id)
				}
			case cluster.ClassConflict:
				p.number()
			case cluster.ClassSweeping, cluster.ClassUploadExpired:
				p.restart()
			}
		})
	})
}

// restart begins anew: nothing that was learnt of the store holds any longer.
func (p *publisher) restart() {
	p.session.alive = false
	id := p.session.id
	p.call(func() { p.w.etcd.revoke(id, p.name+": takes its marker down") }, func(bool) { p.mark() })
}

// finish takes the marker down and asks for the release (T2).
func (p *publisher) finish(id release.ID) {
	p.session.alive = false
	lease := p.session.id
	p.call(func() { p.w.etcd.revoke(lease, p.name+": takes its marker down") }, func(bool) {
		if p.dies() {
			return
		}
		d := p.ask
		d.Request, d.Release, d.By, d.At = p.req, id, p.name, p.w.clock()
		p.w.ask(&p.proc, p.view, d, func(r cluster.Result) {
			if p.ended != nil {
				p.ended(id, r)
			}
		})
	})
}

// ask makes a request on the ground of a view, and waits for its result if it was
// taken.
func (w *world) ask(p *proc, v *cluster.View, d cluster.Desired, ended func(cluster.Result)) {
	p.commit(cluster.Request(v, d), 0, nil, func(o outcome) {
		if o.err != nil || o.refused != nil {
			ended(cluster.Result{State: cluster.StateRefused, Error: &cluster.ErrorInfo{Class: o.class()}})
			return
		}
		w.sum.Requests++
		var look func()
		look = func() {
			var r *pair
			p.call(func() { r = w.etcd.pairs[cluster.ResultKey(site, d.Request)] }, func(answered bool) {
				if answered && r != nil {
					w.sum.ends(value[cluster.Result](r).State)
					w.check.told(d.Request, value[cluster.Result](r))
					ended(value[cluster.Result](r))
					return
				}
				p.after(time.Second, look)
			})
		}
		look()
	})
}
