package nodeagent

import (
	"context"
	"time"

	"relman/cluster"
	"relman/release"
)

// A scheduled flip is made like any other, and each node that has heard of it waits
// until it is time by its own clock. Until then it shows what was shown before, and
// answers visitors who have seen the new release elsewhere out of that, which it
// holds as well.

// lookAgain is how often a node that waits looks at its clock: that may be set
// meanwhile, and timers stand still while the machine sleeps.
const lookAgain = time.Second

// target is what a node is to show; the zero one is nothing.
type target struct {
	release  release.ID // that became active with epoch
	epoch    release.Epoch
	shown    release.ID     // by this node: it may be one whose group sees the canary
	manifest release.Digest // of that; zero: the id says it all
	split    *split         // what visitors are shown besides; nil: nothing
}

// dueOf is what a node of a group, which has applied an epoch, is to show at a time by
// its own clock, and whether it waits to show a. A clock that is known to be wrong by
// off says nothing about the time, nor does one by which the flip is yet to be made:
// such a node does not wait.
func dueOf(a cluster.Active, g release.Group, applied release.Epoch, now time.Time, off time.Duration) (t target, waits bool) {
	before, epoch, waits := a.WaitsAt(now, applied)
	switch {
	case !waits || off != 0 || now.Before(a.At.Add(-cluster.MaxClockError)):
		id, manifest := shownBy(g, a)
		return target{a.Release, a.Epoch, id, manifest, splitOf(a)}, false
	case before == nil:
		return target{epoch: epoch}, true
	}
	return target{release: before.Release, epoch: epoch, shown: before.Release}, true
}

// due is what is to be shown now. It is called with the lock, and sets the alarm for
// the time when it will be something else.
func (s *site) due(a cluster.Active) target {
	var now time.Time
	var off time.Duration
	if !a.ActivateAt.IsZero() {
		now, off = s.cfg.now(), s.reg.ClockError()
	}
	var t target
	if t, s.waiting = dueOf(a, s.cfg.Group, s.applied.Epoch, now, off); !s.waiting {
		return t
	}
	left := min(a.ActivateAt.Sub(now), lookAgain)
	if s.alarm == nil {
		s.alarm = time.AfterFunc(left, s.look)
	} else {
		s.alarm.Reset(left)
	}
	return t
}

// look swaps if it is time.
func (s *site) look() {
	s.mu.Lock()
	was := s.waiting
	if was {
		s.swap()
	}
	news := was && !s.waiting
	s.mu.Unlock()
	if news {
		s.poke()
	}
}

// wants is the epoch that the node is to show now. It is called with the lock.
func (s *site) wants() release.Epoch {
	a := s.view.Active.Value
	if s.waiting {
		return a.Before
	}
	return a.Epoch
}

// waitsFor reports whether the node knows of an epoch and waits until it is time.
func (s *site) waitsFor(epoch release.Epoch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting && epoch <= s.view.Active.Value.Epoch
}

// clockError is the error of the clock for the status, 0 while it is good. It is
// rounded: what changes with every tick is no news.
func (s *site) clockError() int64 {
	return s.reg.ClockError().Round(100 * time.Millisecond).Milliseconds()
}

// watchClock has all sites look, and report, when the clock turns out to be wrong, or
// is right again.
func (a *Agent) watchClock(ctx context.Context) {
	var last time.Duration
	for ctx.Err() == nil {
		if off := a.reg.ClockError().Round(100 * time.Millisecond); off != last {
			last = off
			if off != 0 {
				a.cfg.Log.Warn("this clock is wrong: scheduled flips are shown as soon as they come", "ahead_ms", off.Milliseconds())
			} else {
				a.cfg.Log.Info("this clock agrees with the leader's")
			}
			a.mu.Lock()
			for _, s := range a.sites {
				s.look()
				s.poke()
			}
			a.mu.Unlock()
		}
		sleep(ctx, lookAgain)
	}
}
