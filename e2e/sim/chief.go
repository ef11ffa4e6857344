package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/manager"
)

const (
	managerTTL = manager.DefaultLeaseTTL
	resync     = manager.DefaultResync
)

// chief is a manager: it campaigns and, while it believes that it leads,
// observes, decides by manager.Mind and commits what that says.
type chief struct {
	proc
	skew    time.Duration // of its clock
	session *session
	key     string
	fence   cluster.Fence
	leads   bool
	term    int // of its own, so that what it has begun ends with its leadership
	mind    *manager.Mind
	busy    bool
	again   bool
	alarm   int // the newest one counts
	tries   int
	rows    int // conflicts in a row
}

func newChief(w *world, i int) *chief {
	m := &chief{proc: proc{w: w, name: fmt.Sprintf("manager %d", i+1)}}
	if m.skew = w.between(-200*time.Millisecond, 200*time.Millisecond); w.odds(1, 3) {
		m.skew = w.between(-5*time.Second, 5*time.Second)
	}
	return m
}

// boot starts it.
func (m *chief) boot() {
	m.start()
	m.leads, m.leader, m.busy = false, 0, false
	m.term++
	m.campaign()
}

// campaign takes a lease and a place in the queue of managers. A pause like the
// program's comes before each try but the first.
func (m *chief) campaign() {
	m.open(managerTTL, m.lost, func(s *session) {
		if s == nil {
			m.after(m.w.between(0, 2*time.Second), m.campaign)
			return
		}
		m.session = s
		m.key = fmt.Sprintf("%s/%016x", cluster.ElectionPrefix, s.id)
		t := cluster.Txn{
			Name:   "stand for election",
			Guards: []cluster.Guard{{Key: m.key, Field: cluster.Create}},
			Ops:    []cluster.Op{{Key: m.key, Value: m.name, Leased: true}},
		}
		t.Mark = &t.Ops[0]
		m.commit(t, s.id, func() bool { return !s.alive }, func(o outcome) {
			switch {
			case !s.alive:
			case o.err != nil || o.refused != nil:
				s.end()
			default:
				m.listen()
				m.look(s)
			}
		})
	})
}

// look waits until nobody stands before it.
func (m *chief) look(s *session) {
	var first *pair
	m.call(func() {
		first = m.w.etcd.oldest()
	}, func(answered bool) {
		switch {
		case !s.alive:
		case !answered || first == nil || first.Key != m.key:
			m.after(m.w.between(200*time.Millisecond, time.Second), func() {
				if s.alive {
					m.look(s)
				}
			})
		default:
			m.reign(cluster.Fence{Key: m.key, Create: first.Create})
		}
	})
}

// oldest is the election key that leads.
func (e *etcd) oldest() (first *pair) {
	for _, k := range e.under(cluster.ElectionPrefix + "/") {
		if p := e.pairs[k]; first == nil || p.Create < first.Create {
			first = p
		}
	}
	return first
}

// lost: its session is over, as far as it knows.
func (m *chief) lost() {
	m.w.say("%s: loses its session", m.name)
	m.leads = false
	m.term++
	m.after(m.w.between(50*time.Millisecond, time.Second), m.campaign)
}

// listen watches the site.
func (m *chief) listen() {
	m.w.etcd.watch = append(m.w.etcd.watch, &watcher{of: &m.proc, gen: m.gen,
		wants: func(key string) bool { return strings.HasPrefix(key, cluster.Prefix) },
		tell:  func(string, int64, *pair) { m.wake() },
	})
}

// reign begins to lead. It has seen nothing yet.
func (m *chief) reign(f cluster.Fence) {
	m.w.sum.Terms++
	m.w.say("%s: leads", m.name)
	m.fence, m.leader, m.leads, m.busy, m.mind = f, f.Create, true, false, manager.NewMind()
	m.term++
	term := m.term
	var tick func()
	tick = func() {
		if m.term == term {
			m.wake()
			m.after(resync, tick)
		}
	}
	tick()
}

func (m *chief) wake() {
	switch {
	case !m.leads:
	case m.busy:
		m.again = true
	default:
		m.settle()
	}
}

// settle observes, decides and acts, until only waiting is left.
func (m *chief) settle() {
	m.busy, m.again = true, false
	term := m.term
	var v *cluster.View
	m.call(func() { v = m.w.etcd.observe() }, func(answered bool) {
		switch {
		case m.term != term:
		case !answered:
			m.pauseFor(term)
		case !v.Policy.Exists():
			m.busy = false
		default:
			m.decide(term, v)
		}
	})
}

func (m *chief) decide(term int, v *cluster.View) {
	if m.w.bug.sees != nil {
		v = m.w.bug.sees(v)
	}
	txns, until := m.mind.Next(m.fence, v, m.w.clock().Add(m.skew))
	if len(txns) == 0 {
		m.busy, m.tries, m.rows = false, 0, 0
		m.waitUntil(term, until)
		if m.again {
			m.wake()
		}
		return
	}
	left, worst := len(txns), error(nil)
	refused := false
	for _, t := range txns {
		if m.w.bug.changes != nil {
			t = m.w.bug.changes(v, t)
		}
		// Between the decision and the transaction a process can stand still.
		m.after(m.hesitation(), func() {
			m.commit(t, 0, func() bool { return m.term != term }, func(o outcome) {
				if left--; o.err != nil {
					worst = o.err
				}
				if o.class() == cluster.ClassNotLeader {
					m.depose(term)
				}
				refused = refused || o.refused != nil
				if left == 0 && m.term == term {
					m.goOn(term, worst, refused)
				}
			})
		})
	}
}

// hesitation is how long a process takes from a decision to its sending.
func (m *chief) hesitation() time.Duration {
	if m.w.fault(1, 25) {
		m.w.sum.Pauses++
		return m.w.between(100*time.Millisecond, 25*time.Second)
	}
	return m.w.between(0, 2*time.Millisecond)
}

// goOn looks again, at once unless there was an error.
func (m *chief) goOn(term int, err error, refused bool) {
	if refused {
		m.rows++
	}
	if err != nil || m.rows > 20 {
		m.pauseFor(term)
		return
	}
	m.settle()
}

// pauseFor is the keeper's back-off.
func (m *chief) pauseFor(term int) {
	bound := min(10*time.Second, 200*time.Millisecond<<min(m.tries, 10))
	m.tries++
	m.after(m.w.between(1, bound), func() {
		if m.term == term {
			m.settle()
		}
	})
}

// depose ends a leadership that etcd knows nothing of any more.
func (m *chief) depose(term int) {
	if m.term == term && m.session.alive {
		m.session.end()
	}
}

// waitUntil looks again at a time.
func (m *chief) waitUntil(term int, until time.Time) {
	m.alarm++
	alarm := m.alarm
	if until.IsZero() {
		return
	}
	m.after(until.Sub(m.w.clock().Add(m.skew)), func() {
		if m.term == term && m.alarm == alarm {
			m.wake()
		}
	})
}

// leading are the managers that believe that they lead.
func (w *world) leading() (all []*chief) {
	return slices.DeleteFunc(slices.Clone(w.managers), func(m *chief) bool { return !m.up || !m.leads })
}
