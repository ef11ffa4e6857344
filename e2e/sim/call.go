package main

import (
	"errors"
	"time"

	"relman/cluster"
)

// patience is how long a client waits for an answer.
const patience = 5 * time.Second

// call asks etcd: ask runs when the question has come to it, done when the answer
// has come back, or when none came in time.
func (p *proc) call(ask func(), done func(answered bool)) { p.send(ask, func() {}, done) }

// send is call for what changes something: a question of which nothing was heard
// may have been lost on its way, or its answer, or it may arrive long after, or
// twice. Then late runs.
func (p *proc) send(ask, late func(), done func(answered bool)) {
	w := p.w
	there, back := w.between(time.Millisecond, 15*time.Millisecond), w.between(time.Millisecond, 15*time.Millisecond)
	if w.fault(1, 30) {
		there = w.between(100*time.Millisecond, 3*time.Second)
	}
	gen, born := p.gen, w.etcd.reborn
	arrive := func(carry func()) bool {
		if w.etcd.down || w.etcd.reborn != born {
			return false
		}
		carry()
		return true
	}
	switch {
	case p.cut || w.fault(1, 40):
		w.sum.LostQuestions++
		if w.fault(1, 2) { // it was only slow
			w.after(w.between(patience, time.Minute), func() {
				w.sum.LateQuestions++
				arrive(late)
			})
		}
		p.after(patience, func() { done(false) })
		return
	}
	w.after(there, func() {
		answered := !p.cut && arrive(ask)
		if answered && w.fault(1, 40) {
			w.sum.LostAnswers++
			answered = false
		}
		if w.fault(1, 60) { // a proxy, or the network, brings it twice
			w.after(w.between(time.Millisecond, 30*time.Second), func() {
				w.sum.LateQuestions++
				arrive(late)
			})
		}
		if p.gen != gen {
			return
		}
		if !answered {
			p.after(patience-there, func() { done(false) })
			return
		}
		p.after(back, func() {
			if p.cut {
				w.sum.LostAnswers++
			}
			done(!p.cut)
		})
	})
}

// outcome is what became of a transaction, as far as its sender knows.
type outcome struct {
	rev     int64
	refused *cluster.Guard
	err     error // it is not known, or will never be
}

var (
	errUnknown  = errors.New("outcome unknown")
	errOrphaned = errors.New("the lease is gone")
)

// class is the class of the refusal, "" for none.
func (o outcome) class() cluster.Class {
	if o.refused == nil {
		return ""
	}
	return o.refused.Class
}

// commit is cluster.Client.Commit: the same transaction again and again until it
// is known what became of it, or the process gives up by stop.
func (p *proc) commit(t cluster.Txn, under int64, stop func() bool, done func(outcome)) {
	unknown := false
	var try func(n int)
	try = func(n int) {
		var a answer
		p.send(func() { a = p.w.etcd.txn(p, t, under) }, func() { p.w.etcd.txn(p, t, under) }, func(answered bool) {
			switch {
			case stop != nil && stop():
				done(outcome{err: errUnknown})
			case !answered:
				unknown = true
				p.w.sum.Resent++
				p.after(p.w.between(0, 50*time.Millisecond<<min(n, 5)), func() { try(n + 1) })
			case a.orphaned:
				done(outcome{err: errOrphaned})
			case a.refused != nil && unknown && !final(*a.refused):
				done(outcome{refused: a.refused, err: errUnknown})
			default:
				done(outcome{rev: a.rev, refused: a.refused})
			}
		})
	}
	try(0)
}

// final reports whether a guard that did not hold will never hold again, so that
// earlier copies cannot commit any more.
func final(g cluster.Guard) bool {
	return g.Field == cluster.Mod && g.Rev != 0 || g.Class == cluster.ClassNotLeader
}

// session is a lease that is kept alive, for as long as that is known.
type session struct {
	of    *proc
	id    int64
	alive bool
	until time.Duration // when it runs out, if no answer comes any more
	ended func()
}

// open grants a lease and keeps it.
func (p *proc) open(ttl time.Duration, ended func(), done func(*session)) {
	s := &session{of: p, ended: ended}
	asked := p.w.now
	p.call(func() { s.id = p.w.etcd.grant(ttl) }, func(answered bool) {
		if !answered {
			done(nil)
			return
		}
		s.alive, s.until = true, asked+ttl
		s.renew(ttl)
		done(s)
	})
}

func (s *session) renew(ttl time.Duration) {
	s.of.after(ttl/3, func() {
		if !s.alive {
			return
		}
		asked, there := s.of.w.now, false
		s.of.call(func() { there = s.of.w.etcd.renew(s.id) }, func(answered bool) {
			switch {
			case !s.alive:
			case answered && !there:
				s.end()
			case answered:
				s.until = asked + ttl
			}
		})
		s.renew(ttl)
		s.of.after(s.until-s.of.w.now+ttl/20, func() {
			if s.alive && s.until < s.of.w.now {
				s.end()
			}
		})
	})
}

func (s *session) end() {
	s.alive = false
	s.ended()
}
