package manager

import (
	"time"

	"relman/cluster"
)

// Mind is what a leader has seen of one site and how it decides, without what it
// takes to act on that: for simulations, which give it their own time and commit
// its transactions themselves. The keeper decides by the same functions. A new
// leader has a new mind.
type Mind struct{ seen *attendance }

// NewMind is the mind of a leader that has seen nothing yet.
func NewMind() *Mind { return &Mind{newAttendance()} }

// Next takes down what v shows and says what to do now: transactions, which do not
// depend on each other, or, when there is none, to look again after a change or at
// the time until, unless that is zero.
func (m *Mind) Next(f cluster.Fence, v *cluster.View, now time.Time) (txns []cluster.Txn, until time.Time) {
	m.seen.note(v, now)
	a := decideSeeing(v, m.seen, now)
	if w, ok := a.(wait); ok {
		return nil, w.until
	}
	for _, s := range a.steps(f, v) {
		txns = append(txns, s.txn)
	}
	return txns, time.Time{}
}

// Fates says what a sweep does with each release of a site; see Sweeper.
func Fates(v *cluster.View, keep int, grace time.Duration, now time.Time) []Fate {
	return fate(v, keep, grace, now)
}
